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
async function look(visitor, name, widths = WIDTHS) {
  const { page } = visitor;
  for (const width of widths) {
    await page.setViewportSize({ width, height: 900 });
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      if (PICTURES) await page.screenshot({ path: `${PICTURES}/${name}-${width}-${colorScheme}.png` });
      expect(await visitor.barriers(), `${name} ${width} ${colorScheme}`).toEqual([]);
      expect(await visitor.scrollsSideways(), `${name} ${width} ${colorScheme}`).toBe(false);
      expect(await visitor.cutOff(), `${name} ${width} ${colorScheme}`).toEqual([]);
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
  bob.expectTrouble(/status of 401.*\/api\/auth\/login$/);
  await bob.signIn('bob', 'the wrong password');
  await bob.page.getByRole('alert').waitFor();
  await look(bob, 'sign-in-refused');
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
  await ada.choose('clumsy');
  await ada.ask('How many are there?');
  const failed = await ada.run('Failed', 2);
  await failed.getByRole('button', { name: /^Steps/ }).click();
  await failed.getByText('sql_query', { exact: true }).waitFor();
  await look(ada, 'failed');
  await page.locator('main > header h1').click();
  await page.keyboard.press('?');
  await page.getByRole('dialog').waitFor();
  await look(ada, 'shortcuts');
  await page.keyboard.press('Escape');
  await page.getByRole('button', { name: /^Rename or delete/ }).click();
  await page.getByRole('button', { name: 'Delete', exact: true }).click();
  await page.getByRole('dialog').waitFor();
  await look(ada, 'confirm');
  await page.keyboard.press('Escape');
  await page.setViewportSize({ width: 360, height: 900 });
  await page.getByRole('button', { name: 'Show conversations' }).click();
  await look(ada, 'conversations', [360]);
});

it('a run at work, one that waits, one that was stopped, and a question that is asked anew', async () => {
  const model = await stage.model();
  const server = await stage.server({ users: ['ada'], model });
  const ada = await stage.user(server, 'ada');
  const { page } = ada;
  await ada.choose('assistant');
  await ada.ask('How do queries get slow, and what is the mean of two numbers?');
  (await model.next()).callTool('time_now', {});
  const call = await model.next();
  call.say('## Why\n\nA query is slow when it reads **more rows** than it needs:\n\n| Cause | Cost |\n|---|--:|\n| no index | 90 % |\n| `select *` | 10 % |\n\n```sql\nselect id from runs where user_id = ?1\n```\n\nThe mean is $\\frac{a+b}{2}$. And');
  await page.locator('math').waitFor();
  await ada.ask('And then?');
  await ada.run('Queued', 1);
  await look(ada, 'working');
  // Nothing moves for whoever does not want that; for all others what is at work does.
  const moving = () => page.evaluate(() => document.getAnimations().length);
  expect(await moving()).toBe(0);
  await page.emulateMedia({ reducedMotion: 'no-preference' });
  expect(await moving()).toBeGreaterThan(0);
  await page.emulateMedia({ reducedMotion: 'reduce' });
  await page.getByRole('button', { name: 'Stop' }).click();
  await ada.run('Stopped');
  (await model.next()).say('One moment');
  await page.getByRole('button', { name: 'Stop' }).click();
  await ada.run('Stopped', 1);
  await look(ada, 'stopped');
  await page.getByRole('button', { name: 'Edit and ask again' }).first().click();
  await ada.sees('You are asking this again.');
  await look(ada, 'editing');
  ada.expectTrouble(/net::ERR_INTERNET_DISCONNECTED|WebSocket connection to .* failed/);
  await ada.context.setOffline(true);
  await ada.sees('You are offline.');
  await look(ada, 'offline');
  await ada.context.setOffline(false);
});

it('a server that is full, one that restarts, and one with a newer page', async () => {
  const server = await stage.server({ users: ['ada'] });
  const ada = await stage.user(server, 'ada');
  const { page } = ada;
  await ada.choose('echo');
  await ada.ask('hello');
  await ada.run('Done');
  ada.expectTrouble(/status of 503|net::ERR_|WebSocket connection to .* failed/);
  let refusal;
  await page.route('**/api/auth/ws-ticket', (route) => {
    if (!refusal) return route.continue();
    const error = { code: refusal, message: 'Not now.', request_id: 'req_0', docs: '' };
    return route.fulfill({ status: 503, headers: { 'Retry-After': '600', 'Content-Type': 'application/json' }, body: JSON.stringify({ error }) });
  });
  for (const [code, words] of [['overloaded', /^The server is full; trying again in \d+ s/], ['draining', /^The server is restarting, trying again in \d+ s/]]) {
    refusal = code;
    await page.reload();
    await ada.run('Done');
    await ada.sees(words);
    await look(ada, code);
  }
  refusal = undefined;
  await page.route(`${server.url}/`, async (route) => {
    const answer = await route.fetch();
    return route.fulfill({ response: answer, body: (await answer.text()).replace(/assets\/index-[\w-]+\.js/, 'assets/index-newer.js') });
  });
  await page.getByRole('button', { name: 'Connect now' }).click();
  await page.getByTitle('Connected').waitFor();
  await server.end('SIGKILL');
  await page.getByRole('button', { name: 'Connect now' }).waitFor();
  await server.restart();
  await ada.sees('The server has a newer version of this page.');
  await look(ada, 'newer');
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
  await look(ada, 'inspector');
  await page.getByRole('group', { name: 'Events' }).getByText('tool_completed').first().click();
  await page.getByLabel('The event as JSON').waitFor();
  await look(ada, 'inspector-event');
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

it('what is behind one-time links', async () => {
  const server = await stage.server({ users: ['bob'], admins: ['ada'], settings: { NETRA__AUTH__REGISTRATION: 'invite' } });
  const ada = await stage.user(server, 'ada');
  const { page } = ada;
  const behind = async () => {
    const link = new URL(await page.getByRole('status').locator('code').innerText());
    const visitor = await stage.visitor(server);
    await visitor.page.goto(server.url + link.pathname + link.search + link.hash);
    await visitor.page.getByLabel('Choose a password').waitFor();
    return visitor;
  };
  await page.goto(`${server.url}/admin/invites`);
  await page.getByRole('button', { name: 'Make an invitation' }).click();
  await ada.sees('The link of your invitation');
  await look(ada, 'admin-invitation');
  await look(await behind(), 'register');
  await page.goto(`${server.url}/admin/users`);
  await page.getByRole('button', { name: 'Change bob' }).click();
  await page.getByRole('button', { name: 'Make a link for a new password' }).click();
  await page.getByRole('dialog').getByText('The link for bob').waitFor();
  await look(ada, 'admin-reset-link');
  await look(await behind(), 'reset');
});
