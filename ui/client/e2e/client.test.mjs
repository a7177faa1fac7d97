// The package as programs get it, in Node with `ws`, against the real server: lines that are cut, and a server that is killed.

import { Netra, textOf } from '@netra/client';
import { afterEach, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { Model } from '../../e2e/model.mjs';
import { PASSWORD, Server } from '../../e2e/server.mjs';

/** What is to be closed after a test, the last first. */
const open = [];
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close();
});

/** Sockets that a test can cut as a broken network does. */
class Cuttable extends WebSocket {
  static lines = [];
  constructor(...how) {
    super(...how);
    Cuttable.lines.push(this);
  }
  static get opened() {
    return Cuttable.lines.length;
  }
  static cut() {
    Cuttable.lines.at(-1).terminate();
  }
}

async function stage(how = {}) {
  const model = await Model.start();
  open.push(model);
  const server = await Server.start({ settings: model.settings });
  open.push(server);
  await server.addUser('ada');
  const netra = await Netra.signIn({ url: server.url, WebSocket: Cuttable, attempts: 10, ...how }, 'ada', PASSWORD);
  open.push(netra);
  Cuttable.lines = [];
  return { model, server, netra };
}

/** Takes events until one fits. */
async function until(stream, list, fits) {
  for (;;) {
    const { value, done } = await stream.next();
    if (done) throw new Error(`the stream ended before the event came; it gave ${list.map(({ type }) => type)}`);
    list.push(value);
    if (fits(value)) return value;
  }
}

const ended = (id) => (event) => event.run_id === id && /^run_(completed|failed|cancelled|timed_out)$/.test(event.type);
const says = (text) => (event) => event.type === 'message_delta' && event.data.delta.includes(text);

/** What stays of a log for ever: deltas of runs that have ended may be folded away. */
const lasting = (events) => events.filter(({ type }) => type !== 'message_delta').map(({ seq, event_id, type, data }) => ({ seq, event_id, type, data }));

/** That a list is the whole log, read anew: nothing lost, nothing twice, in order. */
async function expectWhole(netra, list) {
  const log = [];
  const control = new AbortController();
  for await (const event of netra.events({ after: 0, signal: control.signal })) {
    log.push(event);
    if (event.seq >= list.at(-1).seq) break;
  }
  expect(lasting(list)).toEqual(lasting(log));
  const seqs = list.map(({ seq }) => seq);
  expect(seqs).toEqual([...new Set(seqs)].sort((a, b) => a - b));
}

/** The deltas of each message that is complete, joined, are its text. */
function expectText(list, text) {
  const done = list.findLast(({ type }) => type === 'message_completed');
  expect(textOf(done.data.content)).toBe(text);
  const deltas = list.filter(({ type, data }) => type === 'message_delta' && data.message_id === done.data.message_id);
  expect(deltas.map(({ data }) => data.delta).join('')).toBe(text);
}

it.each(['bearer', 'ticket'])('reads all events of a run through cuts, opened by %s', async (opening) => {
  const { model, netra } = await stage({ opening });
  const stream = netra.events({ after: 0 });
  await stream.ready;
  const run = await netra.runs.start({ agent: 'assistant', input: 'tell me' });
  const call = await model.next();
  const list = [];
  for (const word of ['one ', 'two ', 'three ']) {
    call.say(word);
    await until(stream, list, says(word.trim()));
    Cuttable.cut();
  }
  call.say('four');
  call.end();
  await until(stream, list, ended(run.id));
  expect(list.at(-1).type).toBe('run_completed');
  expect(Cuttable.opened).toBe(4);
  expectText(list, 'one two three four');
  await expectWhole(netra, list);
  expect((await netra.runs.wait(run.id)).status).toBe('completed');
});

it('makes one run of a start whose answer never came', async () => {
  const { netra } = await stage();
  const stream = netra.events({ after: 0 });
  await stream.ready;
  const start = stream.start({ agent: 'echo', input: 'once' });
  Cuttable.cut();
  const { run_id } = await start;
  await until(stream, [], ended(run_id));
  expect((await netra.runs.list()).items.map(({ id }) => id)).toEqual([run_id]);
  const key = { idempotencyKey: 'the same' };
  const [one, two] = [await netra.runs.start({ agent: 'echo', input: 'x' }, key), await netra.runs.start({ agent: 'echo', input: 'x' }, key)];
  expect(two.id).toBe(one.id);
});

it('starts over REST what is too long for a socket, and keeps the line', async () => {
  const { netra } = await stage();
  const stream = netra.events({ after: 0 });
  await stream.ready;
  const run = { agent: 'echo', input: 'x'.repeat(70_000) };
  await expect(stream.start(run)).rejects.toMatchObject({ code: 'too_large' });
  const { id } = await netra.runs.start(run);
  await until(stream, [], ended(id));
  expect(Cuttable.opened).toBe(1);
});

it('goes on in another program from the place that was kept', async () => {
  const { netra } = await stage();
  const first = netra.events({ after: 0 });
  const list = [];
  const { run_id } = await first.start({ agent: 'echo', input: 'hello' });
  await until(first, list, ({ type }) => type === 'run_started');
  const place = JSON.parse(JSON.stringify(first.place));
  first.close();
  const second = netra.events({ after: place });
  await until(second, list, ended(run_id));
  await expectWhole(netra, list);
  const gone = netra.events({ after: { epoch: 'another', seq: 1 } });
  await expect(gone.next()).rejects.toMatchObject({ code: 'cursor_expired', log: { epoch: place.epoch, oldest_seq: 1 } });
});

it('reads a run and all runs by server-sent events, and resumes them', async () => {
  const { netra } = await stage();
  // What JavaScript takes for the end of a line, and server-sent events do not.
  const run = await netra.runs.start({ agent: 'echo', input: 'hello\u2028there' });
  const events = [];
  for await (const event of netra.runs.events(run.id)) events.push(event);
  expect([events.at(0).type, events.at(-1).type]).toEqual(['run_started', 'run_completed']);
  const middle = events[1];
  const { epoch } = (await netra.runs.get(run.id)).as_of;
  const rest = [];
  for await (const event of netra.runs.events(run.id, { after: { epoch, seq: middle.seq } })) rest.push(event);
  expect(lasting(rest)).toEqual(lasting(events.slice(2)));
  const all = [];
  for await (const event of netra.eventsBySse({ after: 0 })) {
    all.push(event);
    if (ended(run.id)(event)) break;
  }
  await expectWhole(netra, all);
});

it('loses nothing and repeats nothing when the server is killed in the middle', async () => {
  const { model, server, netra } = await stage();
  const stream = netra.events({ after: 0 });
  await stream.ready;
  const run = await netra.runs.start({ agent: 'assistant', input: 'tell me' });
  const bySse = [];
  const sse = (async () => {
    for await (const event of netra.runs.events(run.id)) bySse.push(event);
  })();
  const waited = netra.runs.wait(run.id);
  const list = [];
  const call = await model.next();
  call.say('half an answer');
  await until(stream, list, says('half'));
  await server.end('SIGKILL');
  // Asked while nobody is there.
  const second = netra.runs.start({ agent: 'echo', input: 'while you were away' });
  await server.restart();
  const again = await model.next();
  again.say('a whole answer');
  again.end();
  const last = await until(stream, list, ended(run.id));
  expect(last.type).toBe('run_completed');
  const other = await second;
  if (!list.some(ended(other.id))) await until(stream, list, ended(other.id));
  await expectWhole(netra, list);
  expect((await waited).status).toBe('completed');
  await sse;
  expect(lasting(bySse)).toEqual(lasting(list.filter(({ run_id }) => run_id === run.id)));
  expect((await netra.runs.list()).items).toHaveLength(2);
});
