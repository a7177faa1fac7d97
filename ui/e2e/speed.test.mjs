// Quick and light, by the browser's own trace: how soon something is seen, how much script there is, and whether the
// page stays in hand while twenty thousand events pour into an open conversation.

import { readdirSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { Stage } from './stage.mjs';

const EVENTS = 20_000;
/** So many are handed over to the browser at once. */
const BURST = 500;
const LONGEST_TASK_MS = 100;
/** What is done at once takes no longer; the server and the browser share the machine with whatever else is on it. */
const LONGEST_BY_THE_CLOCK_MS = 500;
const FIRST_PAINT_MS = 1_000;
const SCRIPT_BYTES = 200_000;
const CROWD = new URL('./crowd', import.meta.url).pathname;
const stage = new Stage();
beforeAll(() => stage.open());
afterEach((test) => stage.clear(test.task));
afterAll(() => stage.close());

/** How long after the start of the first visit something was painted, and each script with its bytes on the wire. */
function loading(trace) {
  const { traceEvents } = JSON.parse(trace.toString());
  const of = (name) => traceEvents.filter((event) => event.name === name);
  const paint = of('firstContentfulPaint').sort((a, b) => a.ts - b.ts)[0];
  const start = of('navigationStart').find((event) => event.args.data?.navigationId === paint.args.data.navigationId);
  const ended = new Map(of('ResourceFinish').map(({ args: { data } }) => [data.requestId, data.encodedDataLength]));
  const answers = of('ResourceReceiveResponse').map(({ args: { data } }) => data).filter(({ mimeType }) => mimeType === 'text/javascript');
  const addresses = new Map(of('ResourceSendRequest').map(({ args: { data } }) => [data.requestId, data.url]));
  const scripts = answers.map(({ requestId }) => [addresses.get(requestId)?.split('/').at(-1), ended.get(requestId)]);
  return { paintMs: (paint.ts - start.ts) / 1000, scripts };
}

it('shows something within a second, and has less than 200 kB of script on every page together', async () => {
  const server = await stage.server({ admins: ['ada'] });
  const ada = await stage.visitor(server);
  const { page } = ada;
  await stage.browser.startTracing(page, { categories: ['devtools.timeline', 'loading', 'blink.user_timing'] });
  await ada.open();
  await ada.signIn('ada');
  await ada.isIn();
  await ada.choose('echo');
  await ada.ask('$\\frac{a}{b}$');
  await (await ada.run('Done')).locator('math').waitFor();
  await page.getByRole('link', { name: 'Inspect' }).click();
  await page.getByRole('group', { name: 'Timeline' }).waitFor();
  await page.getByRole('link', { name: 'Account' }).click();
  await ada.sees('You have no keys.');
  await page.getByRole('link', { name: 'Administration' }).click();
  await page.getByRole('button', { name: 'Change ada' }).waitFor();
  const { paintMs, scripts } = loading(await stage.browser.stopTracing());
  const bytes = scripts.reduce((sum, [, size]) => sum + size, 0);
  console.log(`first paint after ${Math.round(paintMs)} ms; ${bytes} bytes of script on the wire, ${scripts.length} files`);
  // The tour has been everywhere: no script is left that was not loaded.
  const built = readdirSync(new URL('../dist/assets/', import.meta.url)).filter((name) => name.endsWith('.js'));
  expect(scripts.map(([name]) => name).sort()).toEqual(built.sort());
  expect(scripts.every(([, size]) => size > 0)).toBe(true);
  expect(paintMs).toBeLessThan(FIRST_PAINT_MS);
  expect(bytes).toBeLessThan(SCRIPT_BYTES);
});

/** Tasks of the page's main thread in a trace of the browser, longest first, in milliseconds. */
function tasks(trace) {
  const { traceEvents } = JSON.parse(trace.toString());
  const names = traceEvents.filter((event) => event.name === 'thread_name' && event.args.name === 'CrRendererMain');
  const busy = new Map();
  for (const event of traceEvents) {
    if (event.ph !== 'X' || event.name !== 'RunTask') continue;
    const key = `${event.pid}:${event.tid}`;
    if (!names.some((name) => `${name.pid}:${name.tid}` === key)) continue;
    busy.set(key, [...(busy.get(key) ?? []), { wall: event.dur / 1000, cpu: Math.min(event.dur, event.tdur ?? event.dur) / 1000 }]);
  }
  const [main = []] = [...busy.values()].sort((a, b) => b.length - a.length);
  return main;
}

/** Keeps the page's socket at hand, so that a test can let events come out of it. */
const KEEP_SOCKET = () => {
  const Native = window.WebSocket;
  window.WebSocket = class extends Native {
    constructor(...args) {
      super(...args);
      window.socketOfTest = this;
    }
  };
};

/** Lets frames come out of the page's socket, each as a task of its own, as frames do. */
function arrive(page, frames) {
  return page.evaluate(async (texts) => {
    const { port1, port2 } = new MessageChannel();
    const turn = () => new Promise((resolve) => {
      port1.onmessage = resolve;
      port2.postMessage(0);
    });
    for (const data of texts) {
      await turn();
      window.socketOfTest.onmessage({ data });
    }
  }, frames);
}

/** What a busy team does: thinks, calls tools, and writes. */
function* work(run, after, count) {
  const agent = run.agent;
  let prev = after;
  for (let index = 0; index < count; index++) {
    const at = new Date(Date.parse(run.ts) + index).toISOString().replace('Z', '000Z');
    const base = { seq: prev + 1, prev, event_id: `evt_${index}`, ts: at, thread_id: run.thread_id, run_id: run.run_id, agent, step: 1 };
    prev += 1;
    const call = { tool_call_id: `tcl_${Math.floor(index / 4)}`, tool_name: 'sql_query' };
    if (index % 4 === 0) yield { ...base, type: 'agent_thinking', data: { message: `step number ${index}` } };
    else if (index % 4 === 1) yield { ...base, type: 'tool_executing', data: { ...call, arguments: { sql: `select ${index}` } } };
    else if (index % 4 === 2) yield { ...base, type: 'tool_completed', data: { ...call, success: true, duration_ms: 3, result: { rows: [[index]] }, result_bytes: 20 } };
    else yield { ...base, type: 'message_delta', data: { message_id: run.messageId, delta: index % 100 === 3 ? `\n\nParagraph ${index}. ` : `word${index} ` } };
  }
}

it('takes twenty thousand events into an open conversation without a task of over 100 ms', async () => {
  const model = await stage.model();
  const server = await stage.server({ users: ['ada'], model });
  const ada = await stage.visitor(server);
  const { page } = ada;
  await page.addInitScript(KEEP_SOCKET);
  await ada.open();
  await ada.signIn('ada');
  await ada.isIn();
  await ada.choose('assistant');
  await ada.ask('a long story');
  const call = await model.next();
  call.say('Once upon a time ');
  await ada.sees('Once upon a time');
  const last = ada.received.map((text) => JSON.parse(text)).findLast((frame) => frame.type === 'message_delta');
  const run = { ...last, messageId: last.data.message_id };
  const frames = [...work(run, last.seq, EVENTS)].map((event) => JSON.stringify(event));

  await quick(page, `${EVENTS} events, and back over all of them`, async () => {
    for (let at = 0; at < frames.length; at += BURST) await arrive(page, frames.slice(at, at + BURST));
    await page.getByText(`1 agent, ${(EVENTS / 4).toLocaleString('en')} tool calls`).waitFor();
    await page.getByText(`word${EVENTS - 1}`).waitFor();
    await back(page);
  });
}, 180_000);

it('opens a run of twenty thousand events without one either, in the conversation and in the inspector', async () => {
  const server = await stage.server({ users: ['ada'] });
  const ada = await stage.user(server, 'ada');
  const { page } = ada;
  await ada.choose('echo');
  await ada.ask('a long story');
  await ada.run('Done');
  const own = ada.received.filter((text) => text.startsWith('{')).map((text) => JSON.parse(text)).filter((frame) => frame.event_id);
  const started = own.findLastIndex((event) => event.type === 'agent_started');
  const run = { ...own[started], messageId: 'msg_long' };
  const long = [...work(run, run.seq, EVENTS)];
  const events = [...own.slice(0, started + 1), ...long, ...own.slice(-2)].map((event, index) => ({ ...event, seq: index + 1, prev: index }));
  const body = events.map((event) => `id: e:${event.seq}\ndata: ${JSON.stringify(event)}\n\n`).join('');
  await page.route(/\/api\/runs\/\w+\/events/, (route) => route.fulfill({ contentType: 'text/event-stream', body }));

  await elsewhere(ada, server);
  await quick(page, `a run of ${EVENTS} events in the conversation`, async () => {
    await ada.conversations.getByText('a long story').click();
    await page.getByText(`1 agent, ${(EVENTS / 4).toLocaleString('en')} tool calls`).waitFor();
    await page.getByRole('button', { name: /steps/i }).click();
    await back(page);
  });
  await quick(page, `a run of ${EVENTS} events in the inspector`, async () => {
    await page.getByRole('link', { name: 'Inspect' }).click();
    await page.getByText(/^1\d,\d+ of 20,\d+ events$/).waitFor();
    const list = page.getByRole('group', { name: 'Events', exact: true });
    for (let part = 1; part <= 10; part++) await list.evaluate((node, part) => (node.scrollTop = (node.scrollHeight * part) / 10), part);
    await list.getByText('run_completed').waitFor();
    await page.getByLabel('Search in events').fill('select 19');
    await page.getByText(/^\d+ of 20,\d+ events$/).waitFor();
  });
}, 180_000);

it('takes more than twenty thousand events of fourteen agents as the server sends them, and reads them again', async () => {
  const settings = { NETRA__LIMITS__STEPS: '20000', NETRA__LIMITS__TOOL_CALLS: '20000' };
  const server = await stage.server({ users: ['ada'], args: ['--agents', CROWD], settings });
  const ada = await stage.visitor(server);
  const { page } = ada;
  page.setDefaultTimeout(150_000);
  await page.addInitScript(KEEP_LONG_TASKS);
  await ada.open();
  await ada.signIn('ada');
  await ada.isIn();
  await ada.choose('office');
  const began = performance.now();
  await ada.ask('What time is it?');
  await (await ada.run('Done')).getByText('6860 looks at the clock').waitFor();
  await page.getByText('15 agents, 6,860 tool calls').waitFor();
  const events = ada.received.filter((text) => text.includes('"event_id":')).length;
  expect(events).toBeGreaterThan(EVENTS);
  await held(page, `${events} events in ${((performance.now() - began) / 1000).toFixed(0)} s, as the server sends them`);

  await elsewhere(ada, server);
  await ada.conversations.getByText('What time is it?').click();
  await page.getByText('15 agents, 6,860 tool calls').waitFor();
  await page.getByRole('button', { name: /steps/i }).click();
  await held(page, 'all of them in the conversation');
  await page.getByRole('link', { name: 'Inspect' }).click();
  await page.getByText(/2\d,\d+ events$/).waitFor();
  await page.getByRole('group', { name: 'Events', exact: true }).evaluate((node) => (node.scrollTop = node.scrollHeight));
  await page.getByText('run_completed').waitFor();
  await held(page, 'all of them in the inspector');
}, 300_000);

/** Keeps how long tasks have held the page up by the clock; the browser tells of those over 50 ms. */
const KEEP_LONG_TASKS = () => {
  window.longTasks = [];
  new PerformanceObserver((list) => window.longTasks.push(...list.getEntries().map(({ duration }) => duration))).observe({ type: 'longtask' });
};

/** No task may have held the page up for so long that a person sees it, whoever else was served meanwhile. */
async function held(page, what) {
  const longest = await page.evaluate(() => Math.max(0, ...window.longTasks.splice(0)));
  console.log(`${what}: ${longest ? `the longest task ${longest.toFixed(0)} ms` : 'no task over 50 ms'} by the clock`);
  expect(longest, what).toBeLessThan(LONGEST_BY_THE_CLOCK_MS);
}

/** To another page, where nothing is known of any run. */
async function elsewhere({ page }, server) {
  await page.goto(`${server.url}/account/usage`);
  await page.getByText('Runs by day').waitFor();
}

/** The reader goes back to the start, over everything. */
async function back(page) {
  const scroller = page.locator('.scroller');
  await scroller.evaluate((node) => (node.scrollTop = node.scrollHeight / 2));
  await scroller.evaluate((node) => (node.scrollTop = 0));
  await page.getByText('step number 0', { exact: true }).waitFor();
}

/**
 * No task may hold the page up while this is done: by the time that the processor was at it, as by the clock a task also
 * lasts while others are served on a busy machine.
 */
async function quick(page, what, act) {
  await stage.browser.startTracing(page, { categories: ['disabled-by-default-devtools.timeline'] });
  const began = performance.now();
  await act();
  const took = performance.now() - began;
  const main = tasks(await stage.browser.stopTracing());
  const longest = { cpu: Math.max(...main.map(({ cpu }) => cpu)), wall: Math.max(...main.map(({ wall }) => wall)) };
  console.log(`${what}: ${(took / 1000).toFixed(1)} s, ${main.length} tasks, the longest ${longest.cpu.toFixed(0)} ms of computing (${longest.wall.toFixed(0)} ms by the clock)`);
  expect(main.length).toBeGreaterThan(100);
  expect(longest.cpu, what).toBeLessThan(LONGEST_TASK_MS);
}
