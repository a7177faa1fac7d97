// Coming in and going out: the set-up link, passwords, sessions, and the mode for development.

import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { PASSWORD } from './server.mjs';
import { Stage } from './stage.mjs';

const stage = new Stage();
beforeAll(() => stage.open());
afterEach((test) => stage.clear(test.task));
afterAll(() => stage.close());

it('makes the first admin by the link, who asks and is answered', async () => {
  const server = await stage.server();
  const ada = await stage.visitor(server);
  const link = new URL(await server.firstAdminLink());
  await ada.page.goto(link.href);
  await ada.page.getByLabel('Your name').fill('ada');
  await ada.page.getByLabel('Choose a password').fill(PASSWORD);
  await ada.page.getByLabel('Repeat the password').fill(`${PASSWORD}!`);
  await ada.page.getByRole('button', { name: 'Create the account' }).click();
  await ada.sees('The two passwords differ.');
  expect(await ada.barriers()).toEqual([]);
  ada.expectTrouble(/status of 400.*\/api\/auth\/setup$/);
  for (const label of ['Choose a password', 'Repeat the password']) await ada.page.getByLabel(label).fill('short');
  await ada.page.keyboard.press('Enter');
  await ada.sees('12 to 128 characters');
  for (const label of ['Choose a password', 'Repeat the password']) await ada.page.getByLabel(label).fill(PASSWORD);
  await ada.page.keyboard.press('Enter');
  await ada.isIn();
  // The one-time token does not stay in the address.
  expect(ada.page.url()).toBe(`${server.url}/`);
  expect(await ada.barriers()).toEqual([]);

  await ada.choose('echo');
  await ada.ask('Good morning');
  const run = await ada.run('Done');
  expect(await run.locator('.answer').innerText()).toBe('Good morning');
  expect(await run.innerText()).toContain('echo');

  // The link works once.
  const late = await stage.visitor(server);
  await late.page.goto(link.href);
  await late.page.getByLabel('Your name').fill('eve');
  for (const label of ['Choose a password', 'Repeat the password']) await late.page.getByLabel(label).fill(PASSWORD);
  late.expectTrouble(/status of 4\d\d.*\/api\/auth\/setup$/);
  await late.page.keyboard.press('Enter');
  await late.sees('This set-up link is not valid any more.');
});

it('signs in by password, stays signed in over a reload, and forgets all when signed out', async () => {
  const server = await stage.server({ users: ['ada'] });
  const ada = await stage.visitor(server);
  await ada.open();
  await ada.page.getByRole('heading', { name: 'Sign in' }).waitFor();
  expect(await ada.barriers()).toEqual([]);
  ada.expectTrouble(/status of 401.*\/api\/auth\/login$/);
  await ada.signIn('ada', 'the wrong password');
  await ada.sees('Name or password is not right.');
  expect(await ada.barriers()).toEqual([]);
  await ada.signIn('ada');
  await ada.isIn();
  await ada.choose('echo');
  await ada.ask('remember the lighthouse');
  await ada.run('Done');
  const thread = new URL(ada.page.url()).pathname;

  await ada.page.reload();
  const run = await ada.run('Done');
  expect(await run.locator('.answer').innerText()).toBe('remember the lighthouse');

  await ada.page.getByRole('button', { name: 'Sign out' }).click();
  await ada.page.getByRole('heading', { name: 'Sign in' }).waitFor();
  expect(await ada.page.locator('body').innerText()).not.toContain('lighthouse');
  await ada.open(thread);
  await ada.page.getByRole('heading', { name: 'Sign in' }).waitFor();
  await ada.signIn('ada');
  await ada.run('Done');
  await ada.conversations.getByText('remember the lighthouse').waitFor();
});

it('asks for no password in development mode', async () => {
  const server = await stage.server({ args: ['--dev'] });
  const local = await stage.visitor(server);
  await local.open();
  await local.isIn();
  await local.conversations.getByText('local').waitFor();
  await local.choose('echo');
  await local.ask('hello');
  await local.run('Done');
  // A second tab of the same browser does not throw the first one out.
  const tab = await local.context.newPage();
  await tab.goto(server.url);
  await tab.getByText('Agents on this server').waitFor();
  await local.ask('hello again');
  await local.run('Done', 1);
});
