// Every page, wide and narrow, light and dark: readable without barriers, and nothing beside the screen. Pictures of
// them are kept where NETRA_E2E_PICTURES names a folder.

import { mkdir } from 'node:fs/promises';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { Stage } from './stage.mjs';

const LOG = new URL('../../samples/synthetic-llm-log.csv', import.meta.url).pathname;
const AGENTS = new URL('./agents', import.meta.url).pathname;
const WIDTHS = [1400, 900, 360];
const PICTURES = process.env.NETRA_E2E_PICTURES;
const stage = new Stage();
beforeAll(async () => {
  await stage.open();
  if (PICTURES) await mkdir(PICTURES, { recursive: true });
});
afterEach((test) => stage.clear(test.task));
afterAll(() => stage.close());

/** Looks at what is shown now at all widths and in both colours. */
async function look(visitor, name) {
  const { page } = visitor;
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: 900 });
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      if (PICTURES) await page.screenshot({ path: `${PICTURES}/${name}-${width}-${colorScheme}.png` });
      // What can be seen differs between wide and narrow; in between nothing is new.
      if (width !== 900) expect(await visitor.barriers(), `${name} ${width} ${colorScheme}`).toEqual([]);
      expect(await visitor.scrollsSideways(), `${name} ${width} ${colorScheme}`).toBe(false);
      expect(await visitor.outgrows(), `${name} ${width} ${colorScheme}`).toBe(false);
    }
  }
  await page.setViewportSize({ width: 1400, height: 900 });
  await page.emulateMedia({ colorScheme: 'light', reducedMotion: 'reduce' });
}

it('signing in and setting up', async () => {
  const server = await stage.server();
  const ada = await stage.visitor(server);
  await ada.page.goto(await server.firstAdminLink());
  await ada.page.getByLabel('Your name').waitFor();
  await look(ada, 'set-up');
  await server.addUser('bob');
  const bob = await stage.visitor(server);
  await bob.open();
  await bob.page.getByRole('heading', { name: 'Sign in' }).waitFor();
  await look(bob, 'sign-in');
});

it('the conversation', async () => {
  const office = await stage.postOffice();
  const server = await stage.server({ users: ['ada'], config: office.config, args: ['--agents', AGENTS] });
  const ada = await stage.user(server, 'ada');
  const { page } = ada;
  await look(ada, 'welcome');
  await page.getByRole('button', { name: /^Agent:/ }).click();
  await look(ada, 'picker');
  await page.keyboard.press('Escape');
  await ada.choose('optimizer');
  await ada.attach(LOG);
  await page.getByRole('button', { name: /Show the first rows/ }).click();
  await look(ada, 'preview');
  await ada.ask('Where do our tokens go, and what would cut the cost by 30 %?');
  await ada.run('Done');
  await page.locator('article img').nth(1).waitFor();
  await look(ada, 'report');
  await ada.choose('mailer');
  await ada.ask('Dear Ada');
  await ada.run('Waiting for you', 1);
  await look(ada, 'approval');
  await page.getByRole('button', { name: 'Deny' }).click();
  await ada.run('Done', 1);
  await page.keyboard.press('Control+k');
  await page.getByRole('combobox').waitFor();
  await look(ada, 'palette');
  await page.keyboard.press('Escape');
});

it('the inspector and the account', async () => {
  const server = await stage.server({ users: ['ada'] });
  const ada = await stage.user(server, 'ada');
  const { page } = ada;
  await ada.choose('optimizer');
  await ada.attach(LOG);
  await ada.ask('What would cut the cost by 30 %?');
  await ada.run('Done');
  await page.getByRole('link', { name: 'Inspect' }).click();
  await page.getByText(/^\d+ events?$|^\d+ of \d+ events$/).waitFor();
  await page.getByRole('group', { name: 'Events' }).getByText('tool_completed').first().click();
  await page.getByLabel('The event as JSON').waitFor();
  await look(ada, 'inspector');
  await page.goto(`${server.url}/account/keys`);
  await page.getByRole('textbox', { name: 'Name' }).fill('nightly report');
  await page.getByRole('button', { name: 'Make a key' }).click();
  await page.getByText('Copy it now').waitFor();
  await look(ada, 'account-keys');
  ada.expectTrouble(/status of 40[45].*\/api\/(me|secrets)/);
  for (const [section, sign] of [['sessions', 'this one'], ['secrets', 'Keep a secret'], ['tools', 'no tool servers of your own'], ['usage', 'Runs by day'], ['audit', 'Outcome'], ['data', 'Your files']]) {
    await page.goto(`${server.url}/account/${section}`);
    await page.getByText(sign).first().waitFor();
    await look(ada, `account-${section}`);
  }
});

it('the administration', async () => {
  const office = await stage.postOffice();
  const server = await stage.server({ users: ['bob', 'eve'], admins: ['ada'], config: office.config, args: ['--agents', AGENTS] });
  const bob = await stage.user(server, 'bob');
  await bob.choose('mailer');
  await bob.ask('Dear Bob');
  await bob.run('Waiting for you');
  const ada = await stage.user(server, 'ada');
  const { page } = ada;
  for (const [section, sign] of [
    ['users', 'enterprise'],
    ['runs', 'Waits for a person'],
    ['isolation', 'All are zero.'],
    ['metrics', 'Requests per second'],
    ['tools', 'post office'],
    ['agents', 'have a problem'],
    ['invites', 'No invitation is open.'],
    ['plans', 'concurrent_runs'],
    ['audit', 'Whose account'],
    ['models', /provider|No model/],
  ]) {
    await page.goto(`${server.url}/admin/${section}`);
    if (section === 'users') {
      await page.getByRole('button', { name: 'Change bob' }).click();
      await page.getByRole('dialog').waitFor();
      await look(ada, 'admin-user');
      await page.keyboard.press('Escape');
      await page.getByText('eve', { exact: true }).waitFor();
    } else await page.getByText(sign).first().waitFor();
    await look(ada, `admin-${section}`);
  }
});
