// A run while it works: words and tools as they come, a reload in the middle, stopping, and running again.

import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { Stage } from './stage.mjs';

const DESK = new URL('./desk', import.meta.url).pathname;
const stage = new Stage();
beforeAll(() => stage.open());
afterEach((test) => stage.clear(test.task));
afterAll(() => stage.close());

it('shows words and tools as they come, also after a reload in the middle', async () => {
  const model = await stage.model();
  const server = await stage.server({ users: ['ada'], model });
  const ada = await stage.user(server, 'ada');
  await ada.choose('assistant');
  await ada.ask('What time is it?');
  (await model.next()).callTool('time_now', {});
  const call = await model.next();
  // The tool has answered before the model is asked again.
  await ada.page.getByText('time_now', { exact: true }).waitFor();
  call.say('It is **early**');
  const run = await ada.run('Working');
  await run.locator('strong', { hasText: 'early' }).waitFor();
  await ada.conversations.getByText('working').waitFor();

  await ada.page.reload();
  const again = await ada.run('Working');
  await again.locator('strong', { hasText: 'early' }).waitFor();
  await ada.page.getByText('time_now', { exact: true }).waitFor();
  call.say(' in the morning.');
  await again.getByText('in the morning.').waitFor();
  expect(await ada.barriers()).toEqual([]);
  call.end();
  const done = await ada.run('Done');
  // Whoever does not look is told.
  await ada.page.locator('[aria-live=polite]', { hasText: 'assistant: Done.' }).waitFor({ state: 'attached' });
  expect(await done.locator('.answer').innerText()).toBe('It is early in the morning.');
  await done.getByRole('list', { name: 'Usage of this run' }).getByText('2 model calls').waitFor();
});

it('stays at the end while there is more and more, until the reader scrolls up', async () => {
  const server = await stage.server({ users: ['ada'] });
  const ada = await stage.user(server, 'ada');
  await ada.choose('echo');
  await ada.ask('hello');
  await ada.run('Done');
  const scroller = ada.page.locator('.scroller');
  const below = () => scroller.evaluate((node) => Math.round(node.scrollHeight - node.scrollTop - node.clientHeight));
  // On a busy machine there is more already when the view is told that it has moved.
  const grow = () => scroller.evaluate((node) => {
    node.firstElementChild.append(Object.assign(document.createElement('p'), { style: 'height: 1000px' }));
    node.dispatchEvent(new Event('scroll'));
  });
  for (let time = 1; time <= 3; time++) {
    await grow();
    await expect.poll(below).toBe(0);
  }
  await scroller.evaluate((node) => (node.scrollTop -= 500));
  await expect.poll(below).toBe(500);
  const frames = () => ada.page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
  await grow();
  await frames();
  expect(await below()).toBeGreaterThan(1_500);
});

it('stops a run at once, keeps what was written, and runs it again', async () => {
  const model = await stage.model();
  const server = await stage.server({ users: ['ada'], model });
  const ada = await stage.user(server, 'ada');
  await ada.choose('assistant');
  await ada.ask('Tell me a long story');
  const call = await model.next();
  call.say('Once upon a time');
  await ada.sees('Once upon a time');
  await ada.page.getByRole('button', { name: 'Stop' }).click();
  const stopped = await ada.run('Stopped');
  await call.left();
  await stopped.getByText('Once upon a time').waitFor();
  await stopped.getByText('cut off').waitFor();
  await stopped.getByText('The run was stopped.').waitFor();
  expect(await ada.barriers()).toEqual([]);

  await stopped.getByRole('button', { name: 'Run again' }).click();
  const second = await model.next();
  expect(JSON.stringify(second.body)).toContain('Tell me a long story');
  second.say('The end.');
  second.end();
  const done = await ada.run('Done', 1);
  await done.getByText('The end.').waitFor();

  // The same after reading it all anew.
  await ada.page.reload();
  await (await ada.run('Stopped')).getByText('cut off').waitFor();
  await (await ada.run('Done', 1)).getByText('The end.').waitFor();
});

it('shows a second question waiting for the first, and stops both', async () => {
  const model = await stage.model();
  const server = await stage.server({ users: ['ada'], model });
  const ada = await stage.user(server, 'ada');
  await ada.choose('assistant');
  await ada.ask('first');
  const call = await model.next();
  call.say('thinking');
  await ada.sees('thinking');
  await ada.ask('second');
  const queued = await ada.run('Queued', 1);
  await queued.getByText('Another run of this conversation goes first.').waitFor();
  await ada.page.getByRole('button', { name: 'Stop' }).click();
  await ada.run('Stopped', 0);
  const next = await model.next();
  next.say('my turn');
  await ada.sees('my turn');
  next.end();
  await ada.run('Done', 1);
});

it('shows what an agent says to whom the conversation was handed over as the answer, also after a reload', async () => {
  const model = await stage.model();
  const server = await stage.server({ users: ['ada'], model, args: ['--agents', DESK] });
  const ada = await stage.user(server, 'ada');
  await ada.choose('front-desk');
  await ada.ask('My parcel is broken.');
  (await model.next()).callTool('handoff_complaints', { message: 'a broken parcel' });
  const call = await model.next();
  call.say('I am sorry ');
  const run = await ada.run('Working');
  await run.locator('.answer', { hasText: 'I am sorry' }).waitFor();
  call.say('about your parcel.');
  call.end();
  const check = async () => {
    const done = await ada.run('Done');
    expect(await done.locator('.answer').allInnerTexts()).toEqual(['I am sorry about your parcel.']);
    await done.getByText('complaints answers').waitFor();
  };
  await check();
  await ada.page.reload();
  await check();
});
