// What the page says when things are not as they should be: offline, full, ended, outdated.

import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { Stage } from './stage.mjs';

const stage = new Stage();
beforeAll(() => stage.open());
afterEach((test) => stage.clear(test.task));
afterAll(() => stage.close());

it('says that one is offline, and goes on when the network is back', async () => {
  const server = await stage.server({ users: ['ada'] });
  const ada = await stage.user(server, 'ada');
  ada.expectTrouble(/net::ERR_INTERNET_DISCONNECTED|WebSocket connection to .* failed/);
  await ada.context.setOffline(true);
  await ada.sees('You are offline.');
  expect(await ada.barriers()).toEqual([]);
  await ada.context.setOffline(false);
  await ada.page.getByTitle(/^(Connected|Reconnected)/).waitFor();
  await ada.choose('echo');
  await ada.ask('back again');
  await ada.run('Done');
});

it('says that the server is full, and tries again by itself', async () => {
  const server = await stage.server({ users: ['ada'] });
  const ada = await stage.visitor(server);
  let full = true;
  await ada.page.route('**/api/auth/ws-ticket', (route) => {
    if (!full) return route.continue();
    const error = { code: 'overloaded', message: 'The node is full.', request_id: 'req_0', docs: '' };
    return route.fulfill({ status: 503, headers: { 'Retry-After': '1', 'Content-Type': 'application/json' }, body: JSON.stringify({ error }) });
  });
  ada.expectTrouble(/status of 503/);
  await ada.open();
  await ada.signIn('ada');
  await ada.sees(/^The server is full; trying again in \d+ s/);
  full = false;
  await ada.page.getByTitle('Connected').waitFor();
});

it('says that the session has ended, and leads back to where one was', async () => {
  const server = await stage.server({ users: ['ada'] });
  const ada = await stage.user(server, 'ada');
  await ada.choose('echo');
  await ada.ask('remember the lighthouse');
  await ada.run('Done');
  const thread = ada.page.url();
  const other = await ada.context.newPage();
  await other.goto(`${server.url}/account/sessions`);
  await other.getByRole('row', { name: /this one/ }).getByRole('button', { name: 'End' }).click();
  await other.getByText('you will have to sign in again').waitFor();
  ada.expectTrouble(/status of 401/);
  await other.getByRole('dialog').getByRole('button', { name: 'End' }).click();
  await ada.sees('You have been signed out. Please sign in again.');
  expect(await ada.page.locator('body').innerText()).not.toContain('lighthouse');
  await ada.signIn('ada');
  await ada.run('Done');
  expect(ada.page.url()).toBe(thread);
});

it('says that the server has another version of the page', async () => {
  const server = await stage.server({ users: ['ada'] });
  const ada = await stage.user(server, 'ada');
  ada.expectTrouble(/net::ERR_|WebSocket connection to .* failed/);
  let newer = true;
  await ada.page.route(`${server.url}/`, async (route) => {
    const answer = await route.fetch();
    const html = (await answer.text()).replace(/assets\/index-[\w-]+\.js/, 'assets/index-newer.js');
    return newer ? route.fulfill({ response: answer, body: html }) : route.continue();
  });
  await server.end('SIGKILL');
  await ada.page.getByRole('button', { name: 'Connect now' }).waitFor();
  await server.restart();
  await ada.sees('The server has a newer version of this page.');
  expect(await ada.barriers()).toEqual([]);
  newer = false;
  await ada.page.getByRole('button', { name: 'Load it' }).click();
  await ada.isIn();
});

it('replays what happened meanwhile, and says how much', async () => {
  const server = await stage.server({ users: ['ada'] });
  const ada = await stage.user(server, 'ada');
  await ada.choose('echo');
  await ada.ask('before');
  await ada.run('Done');
  const thread = new URL(ada.page.url()).pathname;
  const phone = await stage.user(server, 'ada');
  await phone.page.goto(server.url + thread);
  await phone.run('Done');
  // Her first window loses its line and cannot get another one.
  ada.expectTrouble(/ws-ticket|net::ERR_FAILED|WebSocket connection to .* failed/);
  let cut = true;
  await ada.page.route('**/api/auth/ws-ticket', (route) => (cut ? route.abort() : route.continue()));
  ada.expectTrouble(/net::ERR_/);
  phone.expectTrouble(/net::ERR_|WebSocket connection to .* failed/);
  await server.end('SIGKILL');
  await server.restart();
  await ada.page.getByRole('button', { name: 'Connect now' }).waitFor();
  await phone.page.getByTitle(/Connected|Reconnected/).waitFor();
  await phone.ask('meanwhile');
  await phone.run('Done', 1);
  cut = false;
  // As when the network is back: it is tried at once, unless it was tried already.
  await ada.page.evaluate(() => dispatchEvent(new Event('online')));
  await ada.sees(/^Reconnected, \d+ events replayed$/);
  const run = await ada.run('Done', 1);
  expect(await run.locator('.answer').innerText()).toBe('meanwhile');
});
