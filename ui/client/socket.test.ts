// The socket against a server that is played here: subscribing, resuming, gaps, repeats, tokens, and a log that has gone.

import { beforeEach, describe, expect, it } from 'vitest';
import { backoffMs } from './backoff.js';
import { ApiError, type CursorExpired } from './errors.js';
import { PlayedClock, PlayedWire, settle } from './played.fixture.js';
import { EventSocket, type Connection, type Wire } from './socket.js';
import type { WireEvent } from './types.js';

let wires: PlayedWire[];
let refusals: boolean[];
let events: WireEvent[];
let states: Connection[];
let clock: PlayedClock;
let expired: CursorExpired[];
let failures: unknown[];
let socket: EventSocket;
let renewals: number;
let renewable: boolean;
let current: { token: string | undefined; readonly expiresInMs: number | undefined };
let open: () => Promise<Wire>;

const wire = (): PlayedWire => wires.at(-1) as PlayedWire;
const state = (): Connection => states.at(-1) as Connection;
const seqs = (): number[] => events.map((event) => event.seq);

beforeEach(() => {
  wires = [];
  refusals = [];
  events = [];
  states = [];
  clock = new PlayedClock();
  expired = [];
  failures = [];
  renewals = 0;
  renewable = true;
  current = { token: 'old', expiresInMs: undefined };
  open = () => {
    wires.push(new PlayedWire());
    return Promise.resolve(wire());
  };
  socket = new EventSocket({
    open: (refused) => {
      refusals.push(refused);
      return open();
    },
    event: (event) => events.push(event),
    connection: (connection) => states.push(connection),
    expired: (error) => expired.push(error),
    refused: (error) => failures.push(error),
    renew: () => {
      renewals += 1;
      if (renewable) current = { token: 'new', expiresInMs: 900_000 };
      return Promise.resolve(renewable);
    },
    current: () => current,
    clock,
  });
});

async function live(latest = 10): Promise<void> {
  socket.subscribe({ epoch: 'e1', seq: 10 });
  socket.start();
  await settle();
  wire().welcome(latest);
  wire().acknowledge(10, latest);
}

/** Lets the wait be over that the socket has told of. */
async function wait(): Promise<void> {
  await settle();
  const waiting = state();
  await clock.pass(waiting.state === 'waiting' ? waiting.retryInMs : 0);
}

/** The line ends, and the next one is up. */
async function reconnect(code: number): Promise<void> {
  wire().onclose?.({ code });
  await wait();
  wire().welcome(14);
}

describe('subscribing', () => {
  it('says after which place, and is live when the replay has caught up', async () => {
    await live(12);
    expect(wire().sent[0]).toMatchObject({ type: 'subscribe', after: 10, epoch: 'e1' });
    expect(state()).toEqual({ state: 'connecting' });
    wire().event(11, 10);
    wire().say({ type: 'position', seq: 12 });
    expect(state()).toEqual({ state: 'live', replayed: 1, again: false });
    expect(socket.place).toEqual({ epoch: 'e1', seq: 12 });
  });

  it('begins now without a place, and does so again when nothing was answered', async () => {
    socket.subscribe(undefined, { deltas: false, threads: ['thr_1'] });
    socket.start();
    await settle();
    wire().welcome();
    await reconnect(1006);
    const { id: _, ...asked } = wire().last('subscribe') ?? {};
    expect(asked).toEqual({ type: 'subscribe', after: 'now', deltas: false, threads: ['thr_1'] });
  });

  it('takes only what comes after the answer, so events of an old subscription are not mixed in', async () => {
    await live();
    socket.subscribe({ epoch: 'e1', seq: 3 });
    wire().event(11, 10);
    expect(events).toEqual([]);
    wire().acknowledge(3, 10);
    wire().event(5, 3);
    expect(seqs()).toEqual([5]);
  });

  it('tells of a refusal that stays, and asks again after one that passes', async () => {
    await live();
    socket.subscribe(undefined, { threads: ['nonsense'] });
    wire().refuse('subscribe', 'invalid_request');
    expect(failures).toMatchObject([{ code: 'invalid_request' }]);
    await clock.pass(60_000);
    expect(wires).toHaveLength(1);
    socket.nudge();
    await settle();
    wire().welcome();
    wire().refuse('subscribe', 'store_unavailable');
    await wait();
    expect(wires).toHaveLength(3);
  });

  it('connects anew when the server says that the subscription has ended', async () => {
    await live();
    wire().say({ type: 'error', id: null, error: { code: 'store_unavailable', message: '' } });
    await wait();
    expect(wires).toHaveLength(2);
  });
});

describe('after a break', () => {
  it.each([1001, 1006, 1011, 4008])('resumes from the last event after %i and tells how many were replayed', async (code) => {
    await live();
    wire().event(12, 10);
    await reconnect(code);
    expect(wire().last('subscribe')).toMatchObject({ after: 12, epoch: 'e1' });
    wire().acknowledge(12, 14);
    wire().event(13, 12);
    wire().event(14, 13);
    expect(seqs()).toEqual([12, 13, 14]);
    expect(state()).toEqual({ state: 'live', replayed: 2, again: true });
  });

  it('waits longer each time, up to a ceiling', async () => {
    await live();
    const waits = [];
    for (let attempt = 0; attempt < 4; attempt++) {
      wire().onclose?.({ code: 1006 });
      const waiting = state();
      if (waiting.state === 'waiting') waits.push(waiting.retryInMs);
      await wait();
    }
    expect(waits).toEqual([0, 1, 2, 3].map((attempt) => backoffMs(attempt, 0.5)));
  });

  it.each([4003, 4009])('waits much longer when it was told to slow down by %i', async (code) => {
    await live();
    wire().onclose?.({ code });
    expect(state()).toMatchObject({ state: 'waiting', closeCode: code, retryInMs: 7_000 });
  });

  it('keeps what the server has said last while nobody answers, and forgets it when there is a line again', async () => {
    await live();
    const up = open;
    open = () => Promise.reject(new TypeError('fetch failed'));
    wire().onclose?.({ code: 1001 });
    await wait();
    expect(state()).toMatchObject({ state: 'waiting', closeCode: 1001 });
    open = () => Promise.reject(new ApiError(503, { code: 'overloaded', message: '' }));
    await wait();
    open = () => Promise.reject(new ApiError(502, { code: 'http_502', message: '' }));
    await wait();
    expect(state()).toMatchObject({ state: 'waiting', reason: 'overloaded' });
    open = up;
    await wait();
    wire().welcome(10);
    wire().acknowledge(10, 10);
    wire().onclose?.({ code: 1006 });
    expect(state()).toEqual({ state: 'waiting', closeCode: 1006, retryInMs: 250 });
  });

  it('waits as long as the server has said', async () => {
    open = () => Promise.reject(new ApiError(503, { code: 'draining', message: '' }, 20_000));
    socket.start();
    await settle();
    expect(state()).toMatchObject({ state: 'waiting', retryInMs: 20_250, reason: 'draining' });
  });

  it('stops at an answer that will not change, and goes on with a new token', async () => {
    open = () => Promise.reject(new ApiError(401, { code: 'unauthenticated', message: '' }));
    socket.start();
    await clock.pass(60_000);
    expect(refusals).toHaveLength(1);
    expect(failures).toMatchObject([{ code: 'unauthenticated' }]);
    socket.token('new');
    expect(refusals).toHaveLength(2);
  });

  it('does not come back with what was too big', async () => {
    await live();
    wire().onclose?.({ code: 1009 });
    expect(failures).toMatchObject([{ code: 'too_large' }]);
    await clock.pass(600_000);
    expect(wires).toHaveLength(1);
  });

  it.each([1002, 1007])('does not come back with what broke the protocol (%i)', async (code) => {
    await live();
    wire().onclose?.({ code });
    expect(failures).toMatchObject([{ code: 'protocol' }]);
    await clock.pass(600_000);
    expect(wires).toHaveLength(1);
  });

  it('says at the next attempt that the line was refused before it was up', async () => {
    socket.start();
    await settle();
    wire().onclose?.({ code: 1006 });
    await wait();
    wire().welcome();
    wire().onclose?.({ code: 1006 });
    await wait();
    expect(refusals).toEqual([false, true, false]);
  });
});

describe('tokens', () => {
  it('gets a new one when the old one has ended, and resumes', async () => {
    await live();
    await reconnect(4001);
    expect(renewals).toBe(1);
    expect(wire().last('subscribe')).toMatchObject({ after: 10, epoch: 'e1' });
  });

  it('stays away when the session cannot be renewed', async () => {
    await live();
    renewable = false;
    wire().onclose?.({ code: 4001 });
    await clock.pass(60_000);
    expect(wires).toHaveLength(1);
    expect(failures).toMatchObject([{ code: 'unauthenticated' }]);
  });

  it('gives the server the next one a minute before the old one ends, on the line that is up', async () => {
    current = { token: 'old', get expiresInMs() { return 100_000 - clock.now; } };
    await live();
    const breathe = async (ms: number): Promise<void> => {
      await clock.pass(ms);
      wire().say({ type: 'pong' });
    };
    await breathe(30_000);
    expect(wire().last('auth.refresh')).toBeUndefined();
    await breathe(10_000);
    expect(wire().last('auth.refresh')).toMatchObject({ token: 'new' });
    expect([renewals, wires.length]).toEqual([1, 1]);
  });

  it('takes the token that another socket has fetched', async () => {
    current = { token: 'old', expiresInMs: 70_000 };
    await live();
    current = { token: 'fetched', expiresInMs: 900_000 };
    await clock.pass(10_000);
    expect(wire().last('auth.refresh')).toMatchObject({ token: 'fetched' });
    expect(renewals).toBe(0);
  });
});

describe('gaps and repetitions', () => {
  it('reads again from the last event before a gap', async () => {
    await live();
    wire().event(13, 12);
    expect(events).toEqual([]);
    expect(wire().sent.at(-1)).toMatchObject({ type: 'subscribe', after: 10, epoch: 'e1' });
    wire().acknowledge(10, 13);
    wire().event(12, 10);
    wire().event(13, 12);
    wire().event(13, 12);
    expect(seqs()).toEqual([12, 13]);
  });

  it('does not ask for ever about the same gap', async () => {
    await live();
    for (let turn = 0; turn < 3; turn++) {
      wire().event(13, 12);
      wire().acknowledge(10, 13);
    }
    expect(wire().sent.filter((frame) => frame.type === 'subscribe')).toHaveLength(2);
    expect(state().state).toBe('waiting');
  });

  it('takes a position as what was sent before', async () => {
    await live();
    wire().say({ type: 'position', seq: 20 });
    wire().event(25, 20);
    expect(seqs()).toEqual([25]);
  });
});

describe('starting a run', () => {
  it('asks again with the same key until it is answered', async () => {
    await live();
    const started = socket.startRun({ agent: 'echo', input: 'hi' });
    const first = wire().last('run.start');
    await reconnect(1006);
    expect(wire().last('run.start')).toEqual(first);
    expect(first?.['idempotency_key']).toMatch(/^\w{32}$/);
    wire().say({ type: 'ack', id: first?.id, run_id: 'run_1', thread_id: 'thr_1' });
    expect(await started).toMatchObject({ run_id: 'run_1' });
    await reconnect(1006);
    expect(wire().last('run.start')).toBeUndefined();
  });

  it('waits for the next server when this one is going down', async () => {
    await live();
    const started = socket.startRun({ agent: 'echo', input: 'hi', idempotency_key: 'mine' });
    wire().refuse('run.start', 'draining');
    await reconnect(1001);
    expect(wire().last('run.start')).toMatchObject({ idempotency_key: 'mine' });
    wire().refuse('run.start', 'queue_full');
    await expect(started).rejects.toMatchObject({ code: 'queue_full' });
  });

  it('sends a frame of 64 KiB, and refuses a longer one instead of losing the line for it', async () => {
    await live();
    const frame = (input: string) => ({ agent: 'echo', input, idempotency_key: 'mine' });
    void socket.startRun(frame(''));
    const room = 64 * 1024 - JSON.stringify(wire().last('run.start')).length;
    // Two bytes each, however many the ids of frames take.
    void socket.startRun(frame('ü'.repeat(room / 2 - 1)));
    const sent = wire().sent.length;
    await expect(socket.startRun(frame('ü'.repeat(room / 2 + 1)))).rejects.toMatchObject({ code: 'too_large' });
    expect(wire().sent).toHaveLength(sent);
    await reconnect(1006);
    expect(wire().sent.filter(({ type }) => type === 'run.start')).toHaveLength(2);
  });

  it('fails when the socket is stopped before the answer', async () => {
    const started = socket.startRun({ agent: 'echo', input: 'hi' });
    socket.stop();
    await expect(started).rejects.toMatchObject({ code: 'closed' });
  });
});

it('tells what the log holds when it cannot be resumed, and begins where it is told', async () => {
  await live();
  await reconnect(1006);
  const log = { epoch: 'e2', oldest_seq: 1, latest_seq: 4 };
  wire().refuse('subscribe', 'cursor_expired', log);
  expect(expired.map((error) => error.log)).toEqual([log]);
  wire().event(15, 14);
  socket.subscribe({ epoch: 'e2', seq: 4 });
  expect(wire().last('subscribe')).toMatchObject({ after: 4, epoch: 'e2' });
  expect(events).toEqual([]);
});

describe('a line that is dead', () => {
  it('is asked after silence, and left when there is no answer', async () => {
    await live();
    await clock.pass(35_000);
    expect(wire().last('ping')).toBeDefined();
    await clock.pass(9_000);
    wire().say({ type: 'pong' });
    await clock.pass(35_000 + 9_999);
    expect(wires).toHaveLength(1);
    await clock.pass(1);
    expect(wire().closed).toBe(true);
    expect(state().state).toBe('waiting');
  });

  it('is left when it never comes up', async () => {
    open = () => new Promise(() => undefined);
    socket.start();
    await clock.pass(19_999);
    expect(refusals).toHaveLength(1);
    await clock.pass(30_000);
    expect(refusals.length).toBeGreaterThan(1);
  });

  it('is left when it answers pings and never the subscription', async () => {
    socket.subscribe({ epoch: 'e1', seq: 10 });
    socket.start();
    await settle();
    wire().welcome();
    await clock.pass(19_999);
    wire().say({ type: 'pong' });
    expect(wires).toHaveLength(1);
    await clock.pass(1);
    expect(wire().closed).toBe(true);
    await wait();
    wire().welcome();
    wire().acknowledge(10, 10);
    await clock.pass(30_000);
    expect(wires).toHaveLength(2);
  });

  it('does not come back when it has been given up', async () => {
    let late: (wire: Wire) => void = () => undefined;
    open = () => new Promise((resolve) => (late = resolve));
    socket.start();
    socket.pause();
    const wire = new PlayedWire();
    late(wire);
    await settle();
    expect([wire.closed, wire.onmessage]).toEqual([true, null]);
  });
});

it('tells the server how far it has got, at most every two seconds', async () => {
  await live();
  wire().event(11, 10);
  wire().event(12, 11);
  await clock.pass(2_000);
  expect(wire().sent.filter((frame) => frame.type === 'delivered')).toEqual([{ type: 'delivered', seq: 12 }]);
});

it('backs off with full jitter under a doubling ceiling of half a minute at most', () => {
  expect(backoffMs(0, 0)).toBe(0);
  expect(backoffMs(3, 0.5)).toBe(2_000);
  expect(backoffMs(3, 0.5, 1_000)).toBe(3_000);
  expect(backoffMs(50, 0.999)).toBeLessThanOrEqual(30_000);
});
