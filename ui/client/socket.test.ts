// The socket against a server that is played here: subscribing, resuming, gaps, and a log that has gone.

import { beforeEach, describe, expect, it } from 'vitest';
import { backoffMs } from './backoff';
import { EventSocket, type Connection, type Wire } from './socket';
import type { AnyEvent } from './types';

class FakeWire implements Wire {
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number }) => void) | null = null;
  sent: { type: string; id: string; [key: string]: unknown }[] = [];
  closed = false;

  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }
  close(): void {
    this.closed = true;
  }
  say(frame: Record<string, unknown>): void {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }
  event(seq: number, prev: number): void {
    this.say({ type: 'agent_thinking', seq, prev, run_id: 'run_1', thread_id: 'thr_1', data: {} });
  }
  /** The frames but for the confirmations, which are for metrics. */
  get asked(): FakeWire['sent'] {
    return this.sent.filter((frame) => frame.type !== 'delivered');
  }
}

let wires: FakeWire[];
let events: AnyEvent[];
let states: Connection[];
let timers: { ms: number; act: () => void; off: boolean }[];
let expired: number;
let socket: EventSocket;
let renewable: boolean;

const settle = async (): Promise<void> => {
  for (let turn = 0; turn < 10; turn++) await Promise.resolve();
};
const wire = (): FakeWire => wires.at(-1) as FakeWire;
const state = (): Connection => states.at(-1) as Connection;

beforeEach(() => {
  wires = [];
  events = [];
  states = [];
  timers = [];
  expired = 0;
  renewable = true;
  socket = new EventSocket({
    ticket: () => Promise.resolve('t'),
    open: () => {
      wires.push(new FakeWire());
      return wire();
    },
    event: (event) => events.push(event),
    connection: (connection) => states.push(connection),
    expired: () => (expired += 1),
    renew: () => Promise.resolve(renewable),
    later: (ms, act) => {
      const timer = { ms, act, off: false };
      timers.push(timer);
      return () => (timer.off = true);
    },
    random: () => 0.5,
  });
});

async function live(latest = 10): Promise<void> {
  socket.subscribe({ epoch: 'e1', seq: 10 });
  socket.start();
  await settle();
  wire().say({ type: 'connection_ready', epoch: 'e1', latest_seq: latest });
  acknowledge(10, latest);
}

function acknowledge(after: number, latest: number): void {
  const subscribe = wire().asked.filter((frame) => frame.type === 'subscribe').at(-1);
  wire().say({ type: 'ack', id: subscribe?.id, epoch: 'e1', after, latest_seq: latest });
}

/** Lets the pending attempt to connect take place. */
async function reconnect(code: number): Promise<void> {
  wire().onclose?.({ code });
  await settle();
  timers.findLast((timer) => !timer.off)?.act();
  await settle();
  wire().say({ type: 'connection_ready', epoch: 'e1', latest_seq: 14 });
}

describe('subscribing', () => {
  it('says after which place, and is live when the replay has caught up', async () => {
    await live(12);
    expect(wire().asked[0]).toMatchObject({ type: 'subscribe', after: 10, epoch: 'e1' });
    expect(state()).toEqual({ state: 'connecting' });
    wire().event(11, 10);
    wire().say({ type: 'position', seq: 12 });
    expect(state()).toEqual({ state: 'live', replayed: 1, again: false });
    expect(socket.place).toEqual({ epoch: 'e1', seq: 12 });
  });

  it('takes only what comes after the answer, so events of an old subscription are not mixed in', async () => {
    await live();
    socket.subscribe({ epoch: 'e1', seq: 3 });
    wire().event(11, 10);
    expect(events).toEqual([]);
    acknowledge(3, 10);
    wire().event(5, 3);
    expect(events.map((event) => event.seq)).toEqual([5]);
  });
});

describe('after a break', () => {
  it('resumes from the last event and tells how many were replayed', async () => {
    await live();
    wire().event(12, 10);
    await reconnect(1006);
    expect(wire().asked[0]).toMatchObject({ type: 'subscribe', after: 12, epoch: 'e1' });
    acknowledge(12, 14);
    wire().event(13, 12);
    wire().event(14, 13);
    expect(events.map((event) => event.seq)).toEqual([12, 13, 14]);
    expect(state()).toEqual({ state: 'live', replayed: 2, again: true });
  });

  it('waits longer each time, and much longer when it was told to slow down', async () => {
    await live();
    wire().onclose?.({ code: 1006 });
    await settle();
    expect(state()).toMatchObject({ state: 'waiting', retryInMs: backoffMs(0, 0.5) });
    await reconnect(1006);
    wire().onclose?.({ code: 4003 });
    await settle();
    expect(state()).toMatchObject({ state: 'waiting', closeCode: 4003, retryInMs: backoffMs(5, 0.5) });
  });

  it('stays away when the session cannot be renewed', async () => {
    await live();
    renewable = false;
    wire().onclose?.({ code: 4001 });
    await settle();
    expect(wires).toHaveLength(1);
    expect(state().state).toBe('live');
  });
});

describe('gaps and repetitions', () => {
  it('reads again from the last event before a gap', async () => {
    await live();
    wire().event(13, 12);
    expect(events).toEqual([]);
    expect(wire().asked.at(-1)).toMatchObject({ type: 'subscribe', after: 10, epoch: 'e1' });
    acknowledge(10, 13);
    wire().event(12, 10);
    wire().event(13, 12);
    wire().event(13, 12);
    expect(events.map((event) => event.seq)).toEqual([12, 13]);
  });

  it('takes a position as what was sent before', async () => {
    await live();
    wire().say({ type: 'position', seq: 20 });
    wire().event(25, 20);
    expect(events.map((event) => event.seq)).toEqual([25]);
  });
});

it('asks for a new start when the log has gone', async () => {
  await live();
  await reconnect(1006);
  const asked = wire().asked.at(-1);
  wire().say({ type: 'error', id: asked?.id, error: { code: 'cursor_expired', message: '' } });
  expect(expired).toBe(1);
  socket.subscribe({ epoch: 'e2', seq: 4 });
  expect(wire().asked.at(-1)).toMatchObject({ type: 'subscribe', after: 4, epoch: 'e2' });
});

it('asks after silence, and goes on elsewhere when there is no answer', async () => {
  await live();
  const fire = (): void => timers.findLast((timer) => !timer.off && timer.ms > 2_000)?.act();
  fire();
  expect(wire().asked.at(-1)?.type).toBe('ping');
  timers.findLast((timer) => !timer.off && timer.ms === 10_000)?.act();
  await settle();
  expect(wire().closed).toBe(true);
  expect(state().state).toBe('waiting');
});

it('backs off between half and all of a doubling time, up to half a minute', () => {
  expect(backoffMs(0, 0)).toBe(250);
  expect(backoffMs(3, 0.999)).toBeLessThanOrEqual(4_000);
  expect(backoffMs(3, 0)).toBe(2_000);
  expect(backoffMs(50, 0.999)).toBeLessThanOrEqual(30_000);
});
