// All of a conversation without a mouse.

import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { PASSWORD } from './server.mjs';
import { Stage } from './stage.mjs';

const AGENTS = new URL('./agents', import.meta.url).pathname;
const FARTHEST = 80;
const stage = new Stage();
beforeAll(() => stage.open());
afterEach((test) => stage.clear(test.task));
afterAll(() => stage.close());

/** Goes on with Tab until this has the focus, which can be seen. */
async function reach(page, locator, key = 'Tab') {
  for (let step = 0; step < FARTHEST; step++) {
    if (await locator.evaluate((node) => node === document.activeElement).catch(() => false)) return;
    await page.keyboard.press(key);
  }
  throw new Error(`${locator} is not reached with ${key}`);
}

/** Whether the focus can be seen: by a line around what has it, or around the box that it stands in. */
function isSeen(page) {
  return page.evaluate(() => {
    const marked = (node) => getComputedStyle(node).outlineStyle !== 'none' || getComputedStyle(node).boxShadow !== 'none';
    const { activeElement: node } = document;
    return marked(node) || (node.closest('.box, .search, label') !== null && marked(node.closest('.box, .search, label')));
  });
}

/** Presses keys, and goes to what has a role and a name, where the focus is seen. */
function hands(page) {
  const press = (key) => page.keyboard.press(key);
  const to = async (role, name, key) => {
    await reach(page, page.getByRole(role, { name }), key);
    expect(await isSeen(page), `the focus on ${name} is seen`).toBe(true);
  };
  return { press, to };
}

it('signs in, chooses, asks, answers a question and signs out with the keyboard alone', async () => {
  const office = await stage.postOffice();
  const server = await stage.server({ users: ['ada'], config: office.config, args: ['--agents', AGENTS] });
  const ada = await stage.visitor(server);
  const { page } = ada;
  const { press, to } = hands(page);
  await ada.open();
  await page.getByRole('heading', { name: 'Sign in' }).waitFor();
  await to('textbox', 'Name');
  await page.keyboard.type('ada');
  await press('Tab');
  await page.keyboard.type(PASSWORD);
  await press('Enter');
  await ada.isIn();

  await to('button', /^Agent:/);
  await press('Enter');
  const mailer = page.getByRole('radio', { name: /^mailer/ });
  for (let step = 0; step < 20 && !(await mailer.isChecked()); step++) await press('ArrowDown');
  await press('Enter');
  await page.getByRole('button', { name: 'Agent: mailer' }).waitFor();
  await press('/');
  await page.keyboard.type('Dear Ada');
  await press('Enter');
  await ada.run('Waiting for you');
  await to('button', 'Approve', 'Shift+Tab');
  await press('Enter');
  const run = await ada.run('Done');
  expect(office.letters).toEqual([{ to: 'ada@example.com', text: 'Dear Ada' }]);
  await to('button', /^Steps/, 'Shift+Tab');
  const open = await run.getByRole('button', { name: /^Steps/ }).getAttribute('aria-expanded');
  await press('Enter');
  expect(await run.getByRole('button', { name: /^Steps/ }).getAttribute('aria-expanded')).not.toBe(open);

  await press('Control+k');
  await page.keyboard.type('audit');
  await press('Enter');
  await page.waitForURL(/\/account\/audit$/);
  await to('button', 'Sign out', 'Shift+Tab');
  await press('Enter');
  await page.getByRole('heading', { name: 'Sign in' }).waitFor();
});

it('makes a key and revokes it with the keyboard alone', async () => {
  const server = await stage.server({ users: ['ada'] });
  const ada = await stage.user(server, 'ada');
  const { page } = ada;
  const { press, to } = hands(page);
  await to('link', 'Account');
  await press('Enter');
  await ada.sees('You have no keys.');
  await to('textbox', 'Name');
  await page.keyboard.type('nightly');
  await to('checkbox', 'read');
  await press('Space');
  await press('Space');
  await to('button', 'Make a key');
  await press('Enter');
  await page.getByRole('status').locator('code').waitFor();
  await to('button', 'I have it', 'Shift+Tab');
  await press('Enter');
  await to('button', 'Revoke nightly');
  await press('Enter');
  // The question takes the focus, and gives it back when it is left.
  await page.getByRole('dialog').waitFor();
  expect(await page.evaluate(() => document.activeElement.closest('dialog') !== null)).toBe(true);
  await press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'hidden' });
  expect(await page.getByRole('button', { name: 'Revoke nightly' }).evaluate((node) => node === document.activeElement)).toBe(true);
  await press('Enter');
  await reach(page, page.getByRole('dialog').getByRole('button', { name: 'Revoke' }));
  await press('Enter');
  await ada.sees('You have no keys.');
});

it('changes an account as an admin with the keyboard alone', async () => {
  const server = await stage.server({ admins: ['ada'], users: ['bob'] });
  const ada = await stage.user(server, 'ada');
  const { page } = ada;
  const { press, to } = hands(page);
  await to('link', 'Administration');
  await press('Enter');
  await page.getByRole('button', { name: 'Change bob' }).waitFor();
  await to('button', 'Change bob');
  await press('Enter');
  await page.getByRole('dialog').waitFor();
  await to('combobox', 'Plan');
  await page.keyboard.type('pro');
  await to('button', 'Save');
  await press('Enter');
  await page.getByRole('row', { name: /^bob user pro active/ }).waitFor();
  await to('link', 'Isolation', 'Shift+Tab');
  await press('Enter');
  await ada.sees('All are zero.');
});

it('goes through a run, bar by bar and event by event, with the keyboard alone', async () => {
  const server = await stage.server({ users: ['ada'] });
  const ada = await stage.user(server, 'ada');
  const { page } = ada;
  const { press, to } = hands(page);
  await ada.choose('optimizer');
  await ada.attach(new URL('../../samples/synthetic-llm-log.csv', import.meta.url).pathname);
  await ada.ask('What would cut the cost by 30 %?');
  await ada.run('Done');
  await to('link', 'Inspect');
  await press('Enter');
  const events = page.getByRole('group', { name: 'Events', exact: true });
  await events.getByText('run_started').waitFor();
  const shown = page.getByText(/^\d+ of \d+ events$/);
  await shown.waitFor();
  const chosen = async () => JSON.parse(await page.getByLabel('The event as JSON').innerText());

  const bars = page.getByRole('group', { name: 'Timeline' }).getByRole('button');
  await reach(page, bars.first());
  expect(await isSeen(page)).toBe(true);
  await press('ArrowDown');
  await press('Enter');
  expect(await chosen()).toMatchObject({ type: 'agent_started', data: { agent: 'optimizer' } });

  await reach(page, events.getByRole('button').first());
  await press('Enter');
  expect((await chosen()).type).toBe('run_started');
  await press('ArrowDown');
  await press('Enter');
  expect((await chosen()).type).toBe('agent_started');
  // On to what is not drawn yet, down to the last one, and back.
  const count = Number(/\d+/.exec(await shown.innerText())[0]);
  for (let step = 0; step < count; step += 16) await press('PageDown');
  await press('Enter');
  expect((await chosen()).type).toBe('run_completed');
  expect(await isSeen(page)).toBe(true);
  await press('ArrowUp');
  await press('Enter');
  expect((await chosen()).type).toBe('agent_completed');
});
