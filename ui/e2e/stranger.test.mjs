// Somebody who has read nothing: from an empty folder to a first report, and on to an agent with a language model, by
// what the page itself says.

import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { PASSWORD } from './server.mjs';
import { Stage } from './stage.mjs';

const stage = new Stage();
beforeAll(() => stage.open());
afterEach((test) => stage.clear(test.task));
afterAll(() => stage.close());

it('is led to an account, to a report on a sample, and to a model', async () => {
  const model = await stage.model();
  const server = await stage.server();
  const ada = await stage.visitor(server);
  const { page } = ada;
  // The address alone says where the way in is.
  await ada.open();
  await ada.sees(/it has printed a link that makes the first account/);
  await page.goto(await server.firstAdminLink());
  await page.getByLabel('Your name').fill('ada');
  for (const label of ['Choose a password', 'Repeat the password']) await page.getByLabel(label).fill(PASSWORD);
  await page.keyboard.press('Enter');
  await ada.isIn();

  // The first thing offered is something that works. Whoever asks without a file is told what to bring, and has it there.
  await page.getByRole('button', { name: /Find out what would cut the cost of a log/ }).click();
  await page.getByRole('button', { name: 'Send' }).click();
  await (await ada.run('Done')).getByText('There is no log that could be read').first().waitFor();
  await page.getByRole('button', { name: 'Use a sample' }).click();
  await page.getByText('synthetic-llm-log.csv is attached.').waitFor({ state: 'attached' });
  expect(await page.getByRole('button', { name: 'Use a sample' }).count()).toBe(0);
  await ada.ask('And with this one?');
  const report = await ada.run('Done', 1);
  await report.getByText('5,000').first().waitFor();

  // What is not ready says what it needs, and the way there.
  await page.getByRole('button', { name: 'New conversation' }).click();
  await page.getByRole('link', { name: 'How to set one up' }).click();
  await page.waitForURL(/\/admin\/models$/);
  await page.getByText('export NETRA__MODELS__DEFAULT=').first().waitFor();
  expect(await ada.barriers()).toEqual([]);
  ada.expectTrouble(/net::ERR_|WebSocket connection to .* failed/);
  await server.end('SIGTERM');
  await server.restart(model.settings);
  await page.getByTitle(/^(Connected|Reconnected)/).waitFor();
  await page.getByRole('button', { name: 'New conversation' }).click();
  await page.getByRole('button', { name: /Ask the assistant/ }).click();
  await page.getByRole('button', { name: 'Send' }).click();
  const call = await model.next();
  call.say('I can look into your logs.');
  call.end();
  await (await ada.run('Done')).getByText('I can look into your logs.').first().waitFor();
});
