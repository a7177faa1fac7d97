// The server goes away and comes back: the page says so, goes on by itself, and has lost nothing.

import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { Stage } from './stage.mjs';

const stage = new Stage();
beforeAll(() => stage.open());
afterEach((test) => stage.clear(test.task));
afterAll(() => stage.close());

/** While nobody listens at the port, the browser writes each try to the console. */
function expectAbsence(visitor) {
  visitor.expectTrouble(/net::ERR_(CONNECTION_REFUSED|CONNECTION_RESET|EMPTY_RESPONSE|INCOMPLETE_CHUNKED_ENCODING|SOCKET_NOT_CONNECTED)/);
  visitor.expectTrouble(/WebSocket connection to .* failed/);
}

it('says that the line is lost, and goes on after a restart', async () => {
  const server = await stage.server({ users: ['ada'] });
  const ada = await stage.user(server, 'ada');
  await ada.choose('echo');
  await ada.ask('before');
  await ada.run('Done');
  expectAbsence(ada);
  await server.end('SIGTERM');
  await ada.page.getByRole('button', { name: 'Connect now' }).waitFor();
  await ada.sees(/^The server is restarting, trying again in \d+ s$/);
  // Whoever tries finds nobody, and the server's word still stands.
  const refused = ada.page.waitForEvent('requestfailed', (request) => request.url().endsWith('/api/auth/ws-ticket'));
  await ada.page.getByRole('button', { name: 'Connect now' }).click();
  await refused;
  await ada.sees(/^The server is restarting, trying again in \d+ s$/);
  expect(await ada.page.getByText(/^Connection lost/).count()).toBe(0);
  await ada.ask('nobody hears this');
  await ada.sees('The server cannot be reached.');
  expect(await ada.page.getByLabel('Your question').inputValue()).toBe('nobody hears this');
  expect(await ada.barriers()).toEqual([]);

  await server.restart();
  await ada.sees('Reconnected');
  await ada.page.getByRole('button', { name: 'Close' }).click();
  await ada.page.getByLabel('Your question').press('Enter');
  const run = await ada.run('Done', 1);
  expect(await run.locator('.answer').innerText()).toBe('nobody hears this');
});

it('goes on with a run that a crash has cut off, and shows what became of it', async () => {
  const model = await stage.model();
  const server = await stage.server({ users: ['ada'], model });
  const ada = await stage.user(server, 'ada');
  await ada.choose('assistant');
  await ada.ask('a question whose answer is cut off');
  const call = await model.next();
  call.say('Let me think');
  await ada.sees('Let me think');
  expectAbsence(ada);
  await server.end('SIGKILL');
  await ada.page.getByRole('button', { name: 'Connect now' }).waitFor();
  await server.restart();
  // The server asks the model again: nobody has the answer that was on its way.
  const second = await model.next();
  second.say('Here it is');
  second.end();
  await ada.run('Done');
  await ada.sees('Here it is');
  await ada.page.reload();
  await ada.run('Done');
  await ada.sees('Here it is');
});
