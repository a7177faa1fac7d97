// What the page counts and says of it: costs, places in the queue, what tools were given and gave, times, holdings, records.

import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { Stage } from './stage.mjs';

const AGENTS = new URL('./agents', import.meta.url).pathname;
/** A token that is written costs a thousandth of a dollar, and the model of the tests writes seven with each answer. */
const PRICED = {
  NETRA__MODELS__PRICE_FILE: new URL('./prices.toml', import.meta.url).pathname,
  NETRA__MODELS__PROVIDERS__SCRIPTED__PRICES: 'tests',
};
const COST = '$0.0070';
const stage = new Stage();
beforeAll(() => stage.open());
afterEach((test) => stage.clear(test.task));
afterAll(() => stage.close());

/** What stands beside a name in a list of names and values. */
function beside(within, name) {
  return within.locator('div', { has: within.page().getByText(name, { exact: true }) }).locator('dd').first().innerText();
}

/** Whoever writes dates, the browser or this program, may set them with other blanks. */
const plain = (text) => text.replace(/\s+/g, ' ');

it('tells what a run has cost and used, in the conversation, in the inspector and by day', async () => {
  const model = await stage.model();
  const server = await stage.server({ users: ['ada'], model, settings: PRICED });
  const ada = await stage.user(server, 'ada', { timezoneId: 'Asia/Kathmandu' });
  const { page } = ada;
  await ada.choose('assistant');
  await ada.ask('What does an answer cost?');
  const call = await model.next();
  call.say('Seven tokens.');
  call.end();
  const run = await ada.run('Done');
  const used = await run.getByRole('list', { name: 'Usage of this run' }).locator('li').allInnerTexts();
  expect(used).toEqual(expect.arrayContaining(['1 model call', COST, expect.stringMatching(/^[\d,]+ tokens in, 7 out$/), expect.stringMatching(/ of memory at most$/)]));

  await run.getByRole('link', { name: 'Inspect' }).click();
  const facts = page.getByRole('region', { name: /^assistant/ });
  await facts.waitFor();
  const tokens = /^([\d,]+)/.exec(used.find((text) => text.includes('tokens in')))[1];
  const told = await Promise.all(['User', 'Attempt', 'Cost', 'Tokens in / out', 'Model calls', 'Tool calls', 'Slots of the user', 'Steps', 'Peak memory'].map((name) => beside(facts, name)));
  expect(told).toEqual(['ada', '1 of 3', COST, `${tokens} / 7`, '1', '0 of 100', '5', '1 of 50', expect.stringMatching(/ of 1\.0 GiB$/)]);
  // A time is one of here, and exact for whoever points at it.
  const asked = facts.locator('div', { hasText: 'Asked' }).locator('time');
  const at = new Date(await asked.getAttribute('datetime'));
  const here = (style) => plain(at.toLocaleString('en', { ...style, timeZone: 'Asia/Kathmandu' }));
  expect(plain(await asked.innerText())).toBe(here({ dateStyle: 'medium', timeStyle: 'short' }));
  expect(plain(await asked.getAttribute('title'))).toBe(here({ dateStyle: 'full', timeStyle: 'long' }));
  // The run was answered without a tool: what it did until it wrote is told as well.
  await page.getByRole('group', { name: 'Timeline' }).getByRole('button', { name: /^assistant Thinks/ }).first().waitFor();

  await page.goto(`${server.url}/account/usage`);
  const today = new Date().toISOString().slice(0, 10);
  await page.getByRole('img', { name: 'Runs by day: In 14 days: 1' }).waitFor();
  await page.getByRole('button', { name: 'Cost', exact: true }).click();
  const chart = page.getByRole('img', { name: `Cost by day: In 14 days: ${COST}` });
  expect(await chart.locator('title').allTextContents()).toContain(`${today}: ${COST}`);
  const heights = await chart.locator('rect').evaluateAll((bars) => bars.map((bar) => Number(bar.getAttribute('height'))));
  expect([heights.length, heights.filter((height) => height > 0).length, heights.at(-1) > 50]).toEqual([14, 1, true]);
  expect(await page.getByRole('row', { name: new RegExp(`^${today}`) }).locator('td').allInnerTexts()).toEqual(['1', tokens, '7', '1', '0', COST]);
});

it('counts places in the queue, and what is held meanwhile', async () => {
  const model = await stage.model();
  const server = await stage.server({ admins: ['ada'], model, settings: { NETRA__LIMITS__CONCURRENT_RUNS: '1' } });
  const ada = await stage.user(server, 'ada');
  const { page } = ada;
  await ada.choose('assistant');
  await ada.ask('the first question');
  const call = await model.next();
  for (const [place, words] of [[1, 'the second question'], [2, 'the third question']]) {
    await page.getByRole('button', { name: 'New conversation' }).click();
    await ada.ask(words);
    const queued = await ada.run('Queued');
    await queued.getByText(`Number ${place} in the queue. All your slots are in use.`).waitFor();
  }
  const third = page.url();

  await page.goto(`${server.url}/admin/isolation`);
  const node = page.locator('.panel', { has: page.getByRole('heading', { name: 'This node' }) });
  await node.waitFor();
  expect(await beside(node, 'Slots in use')).toMatch(/^1 \/ /);
  expect(await beside(node, 'In the queue')).toBe('2');
  // The page asks again every few seconds, and sees its own socket then.
  await node.locator('div', { hasText: /^Connections/ }).locator('dd', { hasText: /^[1-9]/ }).waitFor();
  expect(await beside(node, 'Memory in the server')).toMatch(/^\d+(\.\d)? MiB$/);
  const hers = await page.getByRole('row', { name: /^ada/ }).locator('td').allInnerTexts();
  expect(hers.slice(0, 2)).toEqual(['1 / 1', '2']);
  expect(hers[2]).toMatch(/^[1-9][\d.]* [KM]iB of 1\.0 GiB, /);

  // Whoever goes first gives the place on, and that is told to whoever waits.
  await page.goto(third);
  await (await ada.run('Queued')).getByText('Number 2 in the queue.').waitFor();
  call.say('One.');
  call.end();
  const second = await model.next();
  await (await ada.run('Queued')).getByText('Number 1 in the queue.').waitFor();
  second.say('Two.');
  second.end();
  const last = await model.next();
  last.say('Three.');
  last.end();
  await ada.run('Done');
});

it('shows what a tool was given, what it gave and how long it took, and records who has agreed', async () => {
  const office = await stage.postOffice();
  const server = await stage.server({ users: ['ada'], config: office.config, args: ['--agents', AGENTS] });
  const ada = await stage.user(server, 'ada');
  const { page } = ada;
  await ada.choose('mailer');
  await ada.ask('Dear Ada');
  await ada.run('Waiting for you');
  await page.getByRole('button', { name: 'Approve' }).click();
  const run = await ada.run('Done');
  await run.getByRole('button', { name: /^Steps/ }).click();
  const tool = run.getByRole('button', { name: /post__send/ });
  await tool.waitFor();
  expect(plain(await tool.innerText())).toMatch(/post__send to: ada@example\.com, text: Dear Ada \d+(\.\d)? m?s$/);
  await tool.click();
  expect(JSON.parse(await run.getByRole('group', { name: 'Arguments' }).last().innerText())).toEqual({ to: 'ada@example.com', text: 'Dear Ada' });
  expect(await run.getByRole('group', { name: 'Result', exact: true }).first().innerText()).toContain('to ada@example.com');

  await page.goto(`${server.url}/account/audit`);
  const record = page.getByRole('row', { name: /post__send/ });
  await record.getByText('completed').waitFor();
  await page.getByRole('row', { name: /^approval/ }).getByText('you', { exact: true }).waitFor();

  await page.goto(`${server.url}/account/data`);
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Export', exact: true }).click()]);
  expect(download.suggestedFilename()).toMatch(/^netra-ada-\d{4}-\d\d-\d\d\.tar$/);
  const archive = readFileSync(await download.path(), 'utf8');
  for (const part of ['account.json', 'messages/', 'audit/', 'Dear Ada', 'post__send']) expect(archive).toContain(part);
});
