// The account and the administration: what is done there takes effect.

import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { PASSWORD } from './server.mjs';
import { Stage } from './stage.mjs';

const AGENTS = new URL('./agents', import.meta.url).pathname;
const stage = new Stage();
beforeAll(() => stage.open());
afterEach((test) => stage.clear(test.task));
afterAll(() => stage.close());

it('makes a key that a program can use, until it is revoked', async () => {
  const server = await stage.server({ users: ['ada'] });
  const ada = await stage.user(server, 'ada');
  const { page } = ada;
  const ask = (secret) => fetch(`${server.url}/api/auth/me`, { headers: { authorization: `Bearer ${secret}` } }).then((answer) => answer.status);
  await page.getByRole('link', { name: 'Account' }).click();
  await page.getByRole('textbox', { name: 'Name' }).fill('nightly');
  await page.getByRole('button', { name: 'Make a key' }).click();
  const secret = await page.getByRole('status').locator('code').innerText();
  expect(secret).toMatch(/^ntr_/);
  expect(await ask(secret)).toBe(200);
  await page.getByRole('button', { name: 'I have it' }).click();
  expect(await page.locator('body').innerText()).not.toContain(secret);
  await page.getByRole('button', { name: 'Revoke nightly' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click();
  await ada.sees('You have no keys.');
  expect(await ask(secret)).toBe(401);
});

it('keeps a secret, tells of it and never its value, and deletes it', async () => {
  const server = await stage.server({ users: ['ada'] });
  const ada = await stage.user(server, 'ada');
  const { page } = ada;
  await page.goto(`${server.url}/account/secrets`);
  await page.getByRole('textbox', { name: 'Name' }).first().fill('wiki');
  await page.getByLabel('Value').fill('a value of some length');
  await page.getByLabel('Hosts that it may be sent to').fill('wiki.example.com\napi.example.com');
  await page.getByRole('button', { name: 'Keep it' }).click();
  await ada.sees('wiki is kept.');
  await ada.sees('wiki.example.com, api.example.com');
  expect(ada.received.join('\n')).not.toContain('a value of some length');
  ada.expectTrouble(/status of 404.*\/api\/secrets\/nothing$/);
  await page.getByRole('textbox', { name: 'Name' }).nth(1).fill('nothing');
  await page.getByRole('button', { name: 'Look up' }).click();
  await ada.sees('You have no secret named nothing.');
  await page.getByRole('textbox', { name: 'Name' }).nth(1).fill('wiki');
  await page.getByRole('button', { name: 'Look up' }).click();
  await page.getByRole('button', { name: 'Delete', exact: true }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await ada.sees('wiki is deleted.');
});

it('lets an admin stop somebody’s run, change their plan, and disable them', async () => {
  const office = await stage.postOffice();
  const server = await stage.server({ users: ['bob'], admins: ['ada'], config: office.config, args: ['--agents', AGENTS] });
  const bob = await stage.user(server, 'bob');
  await bob.choose('mailer');
  await bob.ask('the walrus letter');
  await bob.run('Waiting for you');

  const ada = await stage.user(server, 'ada');
  const { page } = ada;
  await page.getByRole('link', { name: 'Administration' }).click();
  await page.getByRole('link', { name: 'Live runs' }).click();
  await page.getByRole('row', { name: /mailer bob/ }).getByRole('button', { name: 'Cancel mailer, bob' }).click();
  await page.getByRole('dialog').getByText('mailer of bob is stopped').waitFor();
  await page.getByRole('dialog').locator('.danger').click();
  await bob.run('Stopped');
  await ada.sees('No run fits.');
  // Whose run it is she sees, and nothing of what it is about.
  expect(ada.received.join('\n')).not.toContain('walrus');

  await page.getByRole('link', { name: 'Users' }).click();
  await page.getByRole('button', { name: 'Change bob' }).click();
  await page.getByRole('dialog').getByLabel('Plan').selectOption('pro');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('row', { name: /^bob user pro active/ }).waitFor();
  await page.getByRole('button', { name: 'Change bob' }).click();
  bob.expectTrouble(/status of 401|WebSocket/);
  await page.getByRole('button', { name: 'Disable' }).click();
  await page.getByRole('dialog').last().getByText('runs are cancelled').waitFor();
  await page.getByRole('dialog').last().locator('.danger').click();
  await page.getByRole('row', { name: /^bob user pro disabled/ }).waitFor();
  await bob.sees('You have been signed out.');
  await bob.signIn('bob', PASSWORD);
  await bob.sees('Name or password is not right.');
});

it('lets an admin make accounts, invite, and set limits by plan and by user', async () => {
  const server = await stage.server({ admins: ['ada'], settings: { NETRA__AUTH__REGISTRATION: 'invite' } });
  const ada = await stage.user(server, 'ada');
  const { page } = ada;
  /** Who opens a link that was shown once, at the place that the test's server has. */
  const opened = async (name) => {
    const { pathname, search, hash } = new URL(await page.getByRole('status').locator('code').innerText());
    const visitor = await stage.visitor(server);
    await visitor.page.goto(server.url + pathname + search + hash);
    if (name) await visitor.page.getByLabel('Your name').fill(name);
    await visitor.page.getByLabel('Choose a password').fill(PASSWORD);
    await visitor.page.getByLabel('Repeat the password').fill(PASSWORD);
    return visitor;
  };

  await page.goto(`${server.url}/admin/users`);
  await page.getByText('Make an account').click();
  await page.getByLabel('Name', { exact: true }).fill('bob');
  await page.getByRole('button', { name: 'Make the account' }).click();
  await ada.sees('The link for bob');
  const bob = await opened();
  await bob.page.getByRole('button', { name: 'Set the password' }).click();
  await bob.sees('Your new password is set.');
  await page.getByRole('button', { name: 'I have it' }).click();

  await page.getByRole('button', { name: 'Change bob' }).click();
  await page.getByRole('dialog').getByText('Limits', { exact: true }).click();
  await page.getByLabel('concurrent_runs').fill('2');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('dialog').waitFor({ state: 'hidden' });
  await page.getByRole('button', { name: 'Change bob' }).click();
  await page.getByRole('button', { name: 'Make a link for a new password' }).click();
  await page.getByRole('dialog').getByText('The link for bob').waitFor();
  await page.keyboard.press('Escape');

  await page.getByRole('link', { name: 'Plans' }).click();
  await page.getByLabel('steps of pro').fill('90');
  await page.getByRole('button', { name: 'Save' }).click();
  await ada.sees('Saved.');
  await page.reload();
  await page.waitForFunction(() => document.querySelector('[aria-label="steps of pro"]')?.value === '90');

  await page.getByRole('link', { name: 'Invitations' }).click();
  await page.getByLabel('Plan').selectOption('pro');
  await page.getByRole('button', { name: 'Make an invitation' }).click();
  await ada.sees('The link of your invitation');
  const eve = await opened('eve');
  await eve.page.getByRole('button', { name: 'Create the account' }).click();
  await eve.isIn();
  await page.getByRole('link', { name: 'Audit' }).click();
  await page.getByRole('row', { name: /plans\.update/ }).waitFor();
  await page.getByLabel('Of user').fill('bob');
  await page.getByRole('button', { name: 'Show', exact: true }).click();
  await page.getByRole('row', { name: /plans\.update/ }).waitFor({ state: 'hidden' });
  await page.getByRole('row', { name: /user\.reset_link/ }).first().waitFor();

  // Limits that were set are in force where they belong.
  await page.getByRole('link', { name: 'Users' }).click();
  await page.getByRole('button', { name: 'Change bob' }).click();
  await page.getByRole('dialog').getByText('Limits', { exact: true }).click();
  expect(await page.getByLabel('concurrent_runs').getAttribute('placeholder')).toBe('2');
  await page.keyboard.press('Escape');
  await page.getByRole('button', { name: 'Change eve' }).click();
  await page.getByRole('dialog').getByText('Limits', { exact: true }).click();
  expect(await page.getByLabel('steps').getAttribute('placeholder')).toBe('90');
});

it('keeps a tool server of one’s own, and removes it', async () => {
  const server = await stage.server({ admins: ['bob'] });
  const bob = await stage.user(server, 'bob');
  const { page } = bob;
  // As shipped, a policy permits it from this plan on.
  await page.goto(`${server.url}/admin/users`);
  await page.getByRole('button', { name: 'Change bob' }).click();
  await page.getByRole('dialog').getByLabel('Plan').selectOption('pro');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('row', { name: /^bob admin pro active/ }).waitFor();
  await page.goto(`${server.url}/account/tools`);
  await page.getByLabel('Name', { exact: true }).fill('wiki');
  await page.getByLabel('Address').fill('https://wiki.example/mcp');
  await page.getByRole('button', { name: 'Add a header' }).click();
  await page.getByLabel('Header', { exact: true }).fill('Authorization');
  await page.getByLabel('Name of the secret').fill('wiki_key');
  await page.getByLabel('Word before it').fill('Bearer');
  await page.getByRole('button', { name: 'Add the server' }).click();
  const card = page.getByRole('article').filter({ hasText: 'https://wiki.example/mcp' });
  await card.getByText('Authorization: Bearer wiki_key').waitFor();
  await card.getByText('away').waitFor();
  await card.getByRole('button', { name: 'Remove wiki' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
  await bob.sees('You have no tool servers of your own.');
});

it('deletes an account that its owner names, and not with a wrong password', async () => {
  const server = await stage.server({ users: ['bob'] });
  const bob = await stage.user(server, 'bob');
  const { page } = bob;
  const leave = async (password) => {
    await page.getByRole('button', { name: 'Delete my account' }).first().click();
    const dialog = page.getByRole('dialog');
    expect(await dialog.getByRole('button', { name: 'Delete my account' }).isDisabled()).toBe(true);
    await dialog.getByLabel('Your name').fill('bob');
    await dialog.getByLabel('Your password').fill(password);
    await dialog.getByRole('button', { name: 'Delete my account' }).click();
  };
  await page.goto(`${server.url}/account/data`);
  bob.expectTrouble(/status of 40[13]|WebSocket/);
  await leave('not the right one at all');
  await page.getByRole('alert').waitFor();
  await leave(PASSWORD);
  await bob.sees('You have been signed out.');
  await bob.signIn('bob');
  await bob.sees('Name or password is not right.');
});

it('shows no administration to who is no admin', async () => {
  const server = await stage.server({ users: ['bob'] });
  const bob = await stage.user(server, 'bob');
  expect(await bob.page.getByRole('link', { name: 'Administration' }).count()).toBe(0);
  await bob.page.goto(`${server.url}/admin/users`);
  await bob.sees('These pages are for admins.');
});

it('shows a run in time, filters its events, and leads from a bar to its event', async () => {
  const server = await stage.server({ users: ['ada'] });
  const ada = await stage.user(server, 'ada');
  const { page } = ada;
  await ada.choose('optimizer');
  await ada.attach(new URL('../../samples/synthetic-llm-log.csv', import.meta.url).pathname);
  await ada.ask('What would cut the cost by 30 %?');
  await ada.run('Done');
  await page.getByRole('link', { name: 'Inspect' }).click();
  await page.waitForURL(/\/runs\/run_/);
  const timeline = page.getByRole('group', { name: 'Timeline' });
  await timeline.getByRole('button', { name: /^optimizer-data Agent/ }).waitFor();
  await timeline.getByRole('button', { name: /^log_profile/ }).first().click();
  expect(JSON.parse(await page.getByLabel('The event as JSON').innerText())).toMatchObject({ type: 'tool_executing', data: { tool_name: 'log_profile' } });
  await page.getByLabel('Search in events').fill('artifact_created');
  await page.getByText(/^\d of \d+ events$/).waitFor();
  expect(new Set(await page.getByRole('group', { name: 'Events' }).locator('code').allInnerTexts())).toEqual(new Set(['artifact_created']));
  await page.getByRole('link', { name: '← To the conversation' }).click();
  await ada.run('Done');
});

it('says which price list a cost is by, of a run and of a model', async () => {
  const model = await stage.model();
  const prices = new URL('./prices.toml', import.meta.url).pathname;
  const settings = { NETRA__MODELS__PRICE_FILE: prices, NETRA__MODELS__PROVIDERS__SCRIPTED__PRICES: 'scripted' };
  const server = await stage.server({ users: ['bob'], admins: ['ada'], model, settings });
  const bob = await stage.user(server, 'bob');
  await bob.choose('assistant');
  await bob.ask('What is the time?');
  const call = await model.next();
  call.say('Late.');
  call.end();
  await bob.run('Done');
  await bob.page.getByRole('link', { name: 'Inspect' }).click();
  await bob.sees("by our contract (2026-11-01, the server's)");
  expect(await bob.barriers()).toEqual([]);

  const ada = await stage.user(server, 'ada');
  await ada.page.goto(`${server.url}/admin/models`);
  await ada.sees(`by our contract (2026-11-01, file ${prices})`);
  expect(await ada.barriers()).toEqual([]);
});
