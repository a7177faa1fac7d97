// Runs that wait for a person: many at once, after a reload, and with more to read than fits in an event.

import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { Program } from './program.mjs';
import { Stage } from './stage.mjs';

const AGENTS = new URL('./agents', import.meta.url).pathname;
/** A browser opens six connections to one host over HTTP/1.1. */
const MORE_THAN_CONNECTIONS = 7;
const stage = new Stage();
beforeAll(() => stage.open());
afterEach((test) => stage.clear(test.task));
afterAll(() => stage.close());

/** A server on which this person's letters wait, the last one first. */
async function lettersWait(letters, settings = {}) {
  const office = await stage.postOffice();
  const server = await stage.server({ users: ['ada'], config: office.config, args: ['--agents', AGENTS], settings });
  const program = await Program.signIn(server, 'ada');
  const runs = [];
  for (const text of letters) {
    const run = await program.ask('mailer', text);
    await run.type('run_waiting');
    runs.push(run);
  }
  return { office, server, program, runs };
}

it('still answers when seven conversations that wait for a person have been opened', async () => {
  const names = Array.from({ length: MORE_THAN_CONNECTIONS }, (_, index) => `Letter ${index}`);
  const { office, server } = await lettersWait(names);
  const ada = await stage.user(server, 'ada');
  await ada.page.reload();
  await ada.isIn();
  for (const name of names) {
    await ada.conversations.getByText(name).click();
    await ada.page.getByRole('heading', { level: 1, name }).waitFor();
    await ada.run('Waiting for you');
    await ada.page.getByRole('group', { name: 'May this tool call run?' }).getByText(name).waitFor();
  }
  await ada.page.getByRole('button', { name: 'Approve' }).click();
  await ada.run('Done');
  expect(office.letters.map(({ text }) => text)).toEqual([names.at(-1)]);
  // And so is what was opened before.
  await ada.conversations.getByText(names[0]).click();
  await ada.run('Waiting for you');
  await ada.page.getByRole('button', { name: 'Stop' }).click();
  await ada.run('Stopped');
});

/** As if its window went behind another one, or came to the front. */
function look(tab, seen) {
  return tab.evaluate((hidden) => {
    Object.defineProperty(document, 'hidden', { configurable: true, get: () => hidden });
    document.dispatchEvent(new Event('visibilitychange'));
  }, !seen);
}

it('looks into seven runs that wait, each in a tab of its own, and goes on in the one that is looked at', async () => {
  const names = Array.from({ length: MORE_THAN_CONNECTIONS }, (_, index) => `Letter ${index}`);
  const { server, program, runs } = await lettersWait(names, { NETRA__LIMITS__SOCKETS: '100' });
  const ada = await stage.user(server, 'ada');
  const count = async (tab) => Number(/([\d,]+) events$/.exec(await tab.getByText(/^[\d,]+ (of [\d,]+ )?events$/).innerText())[1]);
  const tabs = [];
  for (const { run } of runs) {
    const tab = await ada.context.newPage();
    await tab.goto(`${server.url}/runs/${run.id}`);
    await tab.getByText('run_waiting', { exact: true }).waitFor();
    await look(tab, false);
    tabs.push(tab);
  }
  const [first] = runs;
  const { data } = await first.type('approval_requested');
  await program.post(`/api/approvals/${data.approval_id}`, { decision: 'approve' });
  const events = await first.ended();
  const before = await count(tabs[0]);
  await look(tabs[0], true);
  await tabs[0].getByText('run_completed', { exact: true }).waitFor();
  expect([before < events.length, await count(tabs[0])]).toEqual([true, events.length]);
});

it('lists who waits for a person also after a reload', async () => {
  const { server } = await lettersWait(['Dear Ada']);
  const ada = await stage.user(server, 'ada');
  const row = ada.conversations.getByRole('listitem').filter({ hasText: 'Dear Ada' });
  await row.getByText('waits for you').waitFor();
  await row.getByText('Dear Ada').click();
  await ada.run('Waiting for you');
  await ada.page.reload();
  await ada.run('Waiting for you');
  await row.getByText('waits for you').waitFor();
  await ada.page.getByRole('button', { name: 'Deny' }).click();
  await ada.run('Done');
  await row.getByText('waits for you').waitFor({ state: 'hidden' });
});

it('shows all that is approved, and sends all that was shown when a word of it is changed', async () => {
  const end = 'and this is how it ends.';
  const letter = `${'Dear Ada, this is a long letter. '.repeat(2_200)}${end}`;
  const { office, server } = await lettersWait([letter, letter]);
  const ada = await stage.user(server, 'ada');
  const { page } = ada;
  const open = async (index) => {
    await ada.conversations.getByRole('listitem').nth(index).locator('button').first().click();
    await ada.run('Waiting for you');
  };
  const asked = page.getByRole('group', { name: 'May this tool call run?' });
  await open(0);
  expect(JSON.parse(await asked.getByRole('group', { name: 'Arguments' }).innerText())).toMatchObject({ text: letter });
  await page.getByRole('button', { name: 'Approve' }).click();
  await ada.run('Done');
  await open(1);
  await asked.getByRole('group', { name: 'Arguments' }).waitFor();
  await page.getByRole('button', { name: 'Change the arguments' }).click();
  const editor = page.getByLabel('Arguments as JSON');
  await editor.fill((await editor.inputValue()).replace('Dear Ada', 'Dear Bob'));
  await page.getByRole('button', { name: 'Approve' }).click();
  await ada.run('Done');
  expect(office.letters.map(({ text }) => text)).toEqual([letter, letter.replace('Dear Ada', 'Dear Bob')]);
});

it('lets nobody approve what cannot be shown, and shows it when it can be', async () => {
  const { server } = await lettersWait(['Dear Ada']);
  const ada = await stage.user(server, 'ada');
  const { page } = ada;
  let away = true;
  ada.expectTrouble(/net::ERR_FAILED/);
  await page.route('**/api/approvals?*', (route) => (away ? route.abort() : route.continue()));
  await ada.conversations.getByText('Dear Ada').click();
  await ada.run('Waiting for you');
  await ada.sees('It cannot be approved unseen.');
  expect(await page.getByRole('button', { name: 'Approve' }).isDisabled()).toBe(true);
  expect(await ada.barriers()).toEqual([]);
  away = false;
  await page.getByRole('button', { name: 'Try again' }).click();
  await page.getByRole('group', { name: 'May this tool call run?' }).getByText('Dear Ada').waitFor();
  await page.getByRole('button', { name: 'Approve' }).click();
  await ada.run('Done');
});
