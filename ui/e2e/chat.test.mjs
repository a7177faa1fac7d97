// The conversation as a tool of the trade: finding, forking, asking anew, approving, and all of it by keyboard.

import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { Stage } from './stage.mjs';

const AGENTS = new URL('./agents', import.meta.url).pathname;
const stage = new Stage();
beforeAll(() => stage.open());
afterEach((test) => stage.clear(test.task));
afterAll(() => stage.close());

it('finds conversations by their words, renames and deletes them, and goes between them by keyboard', async () => {
  const server = await stage.server({ users: ['ada'] });
  const ada = await stage.user(server, 'ada');
  const { page } = ada;
  for (const words of ['about walruses', 'about pelicans', 'about lighthouses']) {
    await page.keyboard.press('Alt+n');
    await page.waitForURL(`${server.url}/`);
    await ada.choose('echo');
    await ada.ask(words);
    await ada.run('Done');
  }
  await page.getByLabel('Search conversations').fill('pelican');
  await ada.conversations.getByText('1 conversation found').waitFor({ state: 'attached' });
  expect(await ada.conversations.locator('.title').allInnerTexts()).toEqual(['about pelicans']);
  await page.getByLabel('Search conversations').fill('no such words');
  await ada.conversations.getByText('Nothing was found for “no such words”.').waitFor();
  await page.getByLabel('Search conversations').press('Escape');
  await ada.conversations.getByText('about walruses').waitFor();

  await page.keyboard.press('Alt+ArrowDown');
  await page.getByRole('heading', { level: 1, name: 'about pelicans' }).waitFor();
  await page.keyboard.press('Alt+ArrowDown');
  await page.getByRole('heading', { level: 1, name: 'about walruses' }).waitFor();
  await page.keyboard.press('Alt+ArrowUp');
  await page.getByRole('heading', { level: 1, name: 'about pelicans' }).waitFor();

  await page.getByRole('button', { name: 'Rename or delete “about pelicans”' }).click();
  await page.getByRole('button', { name: 'Rename', exact: true }).click();
  await page.getByLabel('Title of the conversation').fill('birds');
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { level: 1, name: 'birds' }).waitFor();
  await page.getByRole('button', { name: 'Rename or delete “birds”' }).click();
  await page.getByRole('button', { name: 'Delete', exact: true }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await page.waitForURL(`${server.url}/`);
  expect(await ada.conversations.locator('.title').allInnerTexts()).toEqual(['about lighthouses', 'about walruses']);
});

it('goes anywhere by the palette', async () => {
  const server = await stage.server({ users: ['ada'] });
  const ada = await stage.user(server, 'ada');
  const { page } = ada;
  await ada.choose('echo');
  await ada.ask('about walruses');
  await ada.run('Done');
  await page.keyboard.press('Control+k');
  const field = page.getByRole('combobox', { name: 'Go to or do' });
  await field.waitFor();
  expect(await ada.barriers()).toEqual([]);
  await field.fill('audit');
  await page.keyboard.press('Enter');
  await page.waitForURL(`${server.url}/account/audit`);
  await page.keyboard.press('Control+k');
  await field.fill('walrus');
  await page.keyboard.press('Enter');
  await ada.run('Done');
  await page.keyboard.press('Control+k');
  await field.fill('colours dark');
  await page.keyboard.press('Enter');
  expect(await page.evaluate(() => getComputedStyle(document.documentElement).colorScheme)).toBe('dark');
  await page.keyboard.press('Control+k');
  await field.fill('no such thing');
  await page.getByText('Nothing goes by this name.').waitFor();
  await page.keyboard.press('Escape');
  await field.waitFor({ state: 'hidden' });
  await page.getByRole('heading', { level: 1, name: 'about walruses' }).click();
  await page.keyboard.press('?');
  await page.getByRole('dialog', { name: 'With the keyboard' }).waitFor();
  expect(await ada.barriers()).toEqual([]);
});

it('asks a question anew in other words, and forks, without touching what was said', async () => {
  const server = await stage.server({ users: ['ada'] });
  const ada = await stage.user(server, 'ada');
  const { page } = ada;
  await ada.choose('echo');
  await ada.ask('the first question');
  await ada.run('Done');
  const first = page.url();
  await ada.ask('the secnd question');
  await ada.run('Done', 1);

  await page.getByRole('button', { name: 'Edit and ask again' }).nth(1).click();
  await ada.sees('You are asking this again.');
  expect(await page.getByLabel('Your question').inputValue()).toBe('the secnd question');
  await ada.ask('the second question');
  await page.waitForURL((url) => url.href !== first && url.pathname.startsWith('/threads/'));
  await page.locator('.answer', { hasText: 'the second question' }).waitFor();
  await page.locator('.question', { hasText: 'the first question' }).waitFor();
  expect(await page.locator('main').innerText()).not.toContain('secnd');

  await page.goto(first);
  await ada.run('Done', 1);
  expect(await page.locator('.question').allInnerTexts()).toEqual([expect.stringContaining('the first question'), expect.stringContaining('the secnd question')]);
  await page.getByRole('button', { name: 'Fork from here' }).first().click();
  await page.waitForURL((url) => url.href !== first && url.pathname.startsWith('/threads/'));
  await page.locator('.question', { hasText: 'the first question' }).waitFor();
  expect(await page.locator('.question').count()).toBe(1);
});

it('looks into a file before anybody has read it', async () => {
  const server = await stage.server({ users: ['ada'] });
  const ada = await stage.user(server, 'ada');
  const { page } = ada;
  const rows = Array.from({ length: 12 }, (_, index) => `${index},"Smith, J.",${index * 2}`);
  await ada.attach({ name: 'people.csv', mimeType: 'text/csv', buffer: Buffer.from(`id,name,score\n${rows.join('\n')}\n`) });
  await page.getByRole('button', { name: /Show the first rows of people.csv$/ }).click();
  const table = page.getByRole('group', { name: 'First rows of people.csv' });
  expect(await table.locator('th').allInnerTexts()).toEqual(['id', 'name', 'score']);
  expect(await table.locator('tr').nth(1).locator('td').allInnerTexts()).toEqual(['0', 'Smith, J.', '0']);
  await ada.sees('12 rows, 3 columns');
  expect(await ada.barriers()).toEqual([]);
  await page.getByRole('button', { name: 'Remove people.csv' }).click();

  // Dropped anywhere on the page, it is attached as well.
  await page.evaluate(() => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File(['{"a":1}\n{"a":2}\n'], 'dropped.jsonl'));
    for (const type of ['dragenter', 'dragover', 'drop']) document.body.dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
  });
  await page.getByText('dropped.jsonl is attached.').waitFor({ state: 'attached' });
  await ada.sees('2 rows, 1 column');
  await page.getByRole('button', { name: 'Remove dropped.jsonl' }).click();
});

it('keeps what is begun, words and files, in the conversation that it was begun in', async () => {
  const server = await stage.server({ users: ['ada'] });
  const ada = await stage.user(server, 'ada');
  const { page } = ada;
  const written = () => page.getByLabel('Your question').inputValue();
  const file = page.getByRole('button', { name: 'Remove notes.csv' });
  await ada.choose('echo');
  await ada.ask('a question');
  await ada.run('Done');
  await page.getByLabel('Your question').fill('half a thought');
  await ada.attach({ name: 'notes.csv', mimeType: 'text/csv', buffer: Buffer.from('a,b\n1,2\n') });
  await page.keyboard.press('Alt+n');
  await page.waitForURL(`${server.url}/`);
  expect([await written(), await file.count()]).toEqual(['', 0]);
  await ada.ask('another question');
  const other = await ada.run('Done');
  expect(await other.locator('..').getByText('notes.csv').count()).toBe(0);
  await ada.conversations.getByText('a question', { exact: true }).click();
  await page.locator('.question', { hasText: 'a question' }).waitFor();
  expect([await written(), await file.count()]).toEqual(['half a thought', 1]);
  // Nor is it lost on a way to another page and back.
  await page.getByRole('link', { name: 'Account' }).click();
  await ada.sees('You have no keys.');
  await ada.conversations.getByText('a question', { exact: true }).click();
  await ada.run('Done');
  expect([await written(), await file.count()]).toEqual(['half a thought', 1]);
  await page.getByLabel('Your question').press('Enter');
  await ada.run('Done', 1);
  await page.locator('article').nth(1).getByText('notes.csv').waitFor();
  await page.keyboard.press('Alt+n');
  await page.waitForURL(`${server.url}/`);
  expect([await written(), await file.count()]).toEqual(['', 0]);
});

it('brings no draft back that was sent, and loses none of where a person goes while a question is on its way', async () => {
  const server = await stage.server({ users: ['ada'] });
  const ada = await stage.user(server, 'ada');
  const { page } = ada;
  const box = page.getByLabel('Your question');
  const fresh = async () => {
    await page.keyboard.press('Alt+n');
    await page.waitForURL(`${server.url}/`);
  };
  const old = async () => {
    await ada.conversations.getByText('an old question').click();
    await page.locator('.question', { hasText: 'an old question' }).waitFor();
  };
  await ada.choose('echo');
  await ada.ask('an old question');
  await ada.run('Done');
  await fresh();
  await box.fill('a first thought');
  await old();
  await fresh();
  expect(await box.inputValue()).toBe('a first thought');
  await box.press('Enter');
  await page.waitForURL(/threads/);
  await ada.run('Done');
  await fresh();
  expect(await box.inputValue()).toBe('');

  await old();
  await box.fill('half a thought');
  const held = [];
  await page.route('**/api/runs', (route) => (route.request().method() === 'POST' ? held.push(route) : route.continue()));
  ada.expectTrouble(/net::ERR_FAILED/);
  for (const passes of [true, false]) {
    await fresh();
    await ada.ask('a slow thought');
    await expect.poll(() => held.length).toBe(1);
    await old();
    const request = held.pop();
    await (passes ? request.continue() : request.abort());
    await (passes ? ada.conversations.getByText('a slow thought').waitFor() : ada.sees('The server cannot be reached.'));
    await expect.poll(() => box.inputValue()).toBe('half a thought');
  }
  await fresh();
  expect(await box.inputValue()).toBe('a slow thought');
});

it('lets a person approve a call with other arguments, or deny it with a word', async () => {
  const office = await stage.postOffice();
  const server = await stage.server({ users: ['ada'], config: office.config, args: ['--agents', AGENTS] });
  const ada = await stage.user(server, 'ada');
  const { page } = ada;
  await ada.choose('mailer');
  await ada.ask('Dear Ada');
  await ada.run('Waiting for you');
  await ada.conversations.getByText('waits for you').waitFor();
  await page.getByRole('group', { name: 'May this tool call run?' }).getByText('Dear Ada').waitFor();
  expect(await ada.barriers()).toEqual([]);
  await page.getByRole('button', { name: 'Change the arguments' }).click();
  const editor = page.getByLabel('Arguments as JSON');
  await editor.fill('{"to": ');
  await ada.sees('This is not valid JSON.');
  expect(await page.getByRole('button', { name: 'Approve' }).isDisabled()).toBe(true);
  await editor.fill('{"to": "bob@example.com", "text": "Dear Bob"}');
  await page.getByRole('button', { name: 'Approve' }).click();
  const run = await ada.run('Done');
  await run.locator('.markdown', { hasText: 'to bob@example.com' }).first().waitFor();
  expect(office.letters).toEqual([{ to: 'bob@example.com', text: 'Dear Bob' }]);

  await ada.ask('Dear Eve');
  await ada.run('Waiting for you', 1);
  await page.getByLabel('Note (for the agent and the audit)').fill('not to her');
  await page.getByRole('button', { name: 'Deny' }).click();
  await (await ada.run('Done', 1)).getByText('Not sent').first().waitFor();
  expect(office.letters).toHaveLength(1);
  // What was decided is still there after reading it all anew.
  await page.reload();
  await ada.run('Done', 1);
  await page.getByRole('article').first().getByRole('button', { name: /steps/i }).click();
  await page.getByRole('group', { name: 'May this tool call run?' }).getByText('Approved').waitFor();
});

it('shows tables, code to copy and formulas in an answer', async () => {
  const model = await stage.model();
  const server = await stage.server({ users: ['ada'], model });
  const ada = await stage.user(server, 'ada', { permissions: ['clipboard-read', 'clipboard-write'] });
  const { page } = ada;
  await ada.choose('assistant');
  await ada.ask('Show me');
  const call = await model.next();
  call.say('| a | b |\n|---|--:|\n| 1 | 2 |\n\n```sql\nselect 1\n```\n\nThe mean is $\\frac{a+b}{2}$, which costs $5 or $6.\n\n$$\\sum_{i=1}^n x_i$$\n');
  call.end();
  const run = await ada.run('Done');
  await run.locator('math mfrac').waitFor();
  await run.locator('.formula.display math').waitFor();
  expect(await run.locator('.answer').innerText()).toContain('costs $5 or $6.');
  await run.locator('.code-head', { hasText: 'sql' }).getByRole('button', { name: 'Copy' }).click();
  await run.getByRole('button', { name: 'Copied' }).waitFor();
  expect((await page.evaluate(() => navigator.clipboard.readText())).trim()).toBe('select 1');
  expect(await ada.barriers()).toEqual([]);
});
