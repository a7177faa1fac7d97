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

it('signs in, chooses, asks, answers a question and signs out with the keyboard alone', async () => {
  const office = await stage.postOffice();
  const server = await stage.server({ users: ['ada'], config: office.config, args: ['--agents', AGENTS] });
  const ada = await stage.visitor(server);
  const { page } = ada;
  const press = (key) => page.keyboard.press(key);
  const to = async (role, name, key) => {
    await reach(page, page.getByRole(role, { name }), key);
    expect(await isSeen(page), `the focus on ${name} is seen`).toBe(true);
  };
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
