// A stream of events against a played server that cuts, repeats, loses and answers late: the caller's list is the log.

import { describe, expect, it } from 'vitest';
import { CursorExpired } from './errors.js';
import { dice, PlayedClock, PlayedWire, settle, type SentFrame } from './played.fixture.js';
import { EventStream } from './stream.js';
import type { WireEvent } from './types.js';

const EPOCH = 'e1';

/** A server with one log, which does to its lines what the dice say. */
class Rogue {
  readonly log: number[] = [];
  readonly runs = new Map<string, string>();
  wires: PlayedWire[] = [];
  private sent = 0;

  constructor(private readonly random: () => number) {}

  open(): PlayedWire {
    const wire = new PlayedWire();
    this.wires.push(wire);
    wire.heard = (frame) => this.answer(wire, frame);
    return wire;
  }

  get wire(): PlayedWire | undefined {
    const wire = this.wires.at(-1);
    return wire && !wire.closed ? wire : undefined;
  }

  private chance(of: number): boolean {
    return this.random() < of;
  }

  /** Seqs have holes, as deleted threads leave them. */
  write(): void {
    this.log.push((this.log.at(-1) ?? 0) + 1 + Math.floor(this.random() * 3));
  }

  private answer(wire: PlayedWire, frame: SentFrame): void {
    if (frame.type === 'run.start') {
      const key = String(frame['idempotency_key']);
      const run = this.runs.get(key) ?? `run_${this.runs.size}`;
      this.runs.set(key, run);
      // The run is made, and its answer is lost as often as not.
      if (this.chance(0.5)) wire.say({ type: 'ack', id: frame.id, run_id: run, thread_id: 't' });
      else this.cut(wire);
    }
    if (frame.type !== 'subscribe') return;
    // Events of the old subscription may be on their way still.
    if (this.chance(0.3) && this.log.length > 0) this.event(wire, this.log.at(-1) as number, 0);
    const after = frame['after'] === 'now' ? (this.log.at(-1) ?? 0) : Number(frame['after']);
    wire.say({ type: 'ack', id: frame.id, epoch: EPOCH, after, latest_seq: this.log.at(-1) ?? 0 });
    this.sent = after;
    this.flush(wire);
  }

  private event(wire: PlayedWire, seq: number, prev: number): void {
    wire.event(seq, prev);
  }

  cut(wire: PlayedWire): void {
    if (wire.closed) return;
    wire.closed = true;
    wire.onclose?.({ code: [1001, 1006, 4008, 4001][Math.floor(this.random() * 4)] as number });
  }

  /** Sends what is in the log, with a cut, a repeat or a loss between any two frames. */
  flush(wire: PlayedWire): void {
    for (;;) {
      if (wire.closed || wire !== this.wire || this.chance(0.1)) return;
      const seq = this.log.find((one) => one > this.sent);
      if (seq === undefined) return;
      const prev = this.sent;
      this.sent = seq;
      if (this.chance(0.05)) return this.cut(wire);
      if (this.chance(0.05)) continue;
      // Sending may make the client ask anew, which is answered from within.
      this.event(wire, seq, prev);
      if (this.sent !== seq) return;
      if (this.chance(0.1)) this.event(wire, seq, prev);
      if (this.chance(0.1)) wire.say({ type: 'position', seq });
    }
  }
}

function played(rogue: Rogue, clock: PlayedClock, options: ConstructorParameters<typeof EventStream>[1]): EventStream {
  const line = {
    open: async () => {
      const wire = rogue.open();
      queueMicrotask(() => queueMicrotask(() => wire.welcome(rogue.log.at(-1) ?? 0, EPOCH)));
      return wire;
    },
    renew: () => Promise.resolve(true),
    clock,
  };
  return new EventStream(line, options);
}

async function collect(stream: EventStream, into: number[]): Promise<void> {
  for await (const event of stream) into.push(event.seq);
}

describe('whatever happens to the line', () => {
  it.each(Array.from({ length: 200 }, (_, seed) => seed))('the list is the log, and each start makes one run (%i)', async (seed) => {
    const random = dice(seed);
    const rogue = new Rogue(random);
    const clock = new PlayedClock(random);
    const stream = played(rogue, clock, { after: 0 });
    const list: number[] = [];
    const done = collect(stream, list);
    const starts: Promise<unknown>[] = [];
    for (let turn = 0; turn < 60; turn++) {
      if (random() < 0.8) rogue.write();
      if (random() < 0.1) starts.push(stream.start({ agent: 'echo', input: '' }));
      if (random() < 0.1 && rogue.wire) rogue.cut(rogue.wire);
      if (rogue.wire) rogue.flush(rogue.wire);
      await clock.pass(random() * 2_000);
    }
    // What was lost last shows with what comes next.
    for (let turn = 0; turn < 400 && list.at(-1) !== rogue.log.at(-1); turn++) {
      if (rogue.wire) rogue.flush(rogue.wire);
      await clock.pass(5_000);
    }
    expect(list).toEqual(rogue.log);
    for (let turn = 0; turn < 100; turn++) await clock.pass(5_000);
    await Promise.all(starts);
    expect(rogue.runs.size).toBe(starts.length);
    stream.close();
    await done;
  });
});

/** A stream on a quiet line. */
async function quiet(options: ConstructorParameters<typeof EventStream>[1] = {}) {
  const wires: PlayedWire[] = [];
  const clock = new PlayedClock();
  const open = async () => {
    wires.push(new PlayedWire());
    return wires.at(-1) as PlayedWire;
  };
  const stream = new EventStream({ open, renew: () => Promise.resolve(true), clock }, options);
  await settle();
  const wire = (): PlayedWire => wires.at(-1) as PlayedWire;
  wire()?.welcome();
  wire()?.acknowledge(10, 10);
  return { stream, wire, wires, clock };
}

const value = async (taken: Promise<IteratorResult<WireEvent, void>>): Promise<number | undefined> => {
  const { value } = await taken;
  return value?.seq;
};

describe('iterating', () => {
  it('says from where it begins, and knows the place after what was taken', async () => {
    const { stream, wire } = await quiet();
    expect(await stream.ready).toEqual({ epoch: 'e1', seq: 10 });
    wire().event(11, 10);
    wire().event(12, 11);
    expect(stream.place).toEqual({ epoch: 'e1', seq: 10 });
    expect(await value(stream.next())).toBe(11);
    expect(stream.place).toEqual({ epoch: 'e1', seq: 11 });
    expect(await value(stream.next())).toBe(12);
    wire().say({ type: 'position', seq: 20 });
    expect(stream.place).toEqual({ epoch: 'e1', seq: 20 });
  });

  it('gives to several who wait, each one event', async () => {
    const { stream, wire } = await quiet();
    const both = Promise.all([value(stream.next()), value(stream.next())]);
    wire().event(11, 10);
    wire().event(12, 11);
    expect(await both).toEqual([11, 12]);
  });

  it.each(['break', 'signal', 'close'])('ends by %s, and the line with it', async (how) => {
    const control = new AbortController();
    const { stream, wire } = await quiet({ signal: control.signal });
    wire().event(11, 10);
    wire().event(12, 11);
    const seen = [];
    for await (const event of stream) {
      seen.push(event.seq);
      if (how === 'break') break;
      if (how === 'signal') control.abort();
      else stream.close();
    }
    expect(seen).toEqual([11]);
    expect(wire().closed).toBe(true);
    expect(await stream.next()).toEqual({ done: true, value: undefined });
  });

  it('ends who waits when it is closed', async () => {
    const { stream } = await quiet();
    const waiting = stream.next();
    stream.close();
    expect(await waiting).toEqual({ done: true, value: undefined });
  });

  it('does not begin when the signal has fired already', async () => {
    const { stream, wires } = await quiet({ signal: AbortSignal.abort() });
    expect(await stream.next()).toEqual({ done: true, value: undefined });
    await expect(stream.ready).rejects.toMatchObject({ name: 'AbortError' });
    expect(wires[0]?.closed ?? true).toBe(true);
  });

  it('gives what it has, then fails with what the log holds', async () => {
    const { stream, wire, clock } = await quiet();
    wire().event(11, 10);
    wire().onclose?.({ code: 1006 });
    await clock.pass(250);
    wire().welcome();
    const log = { epoch: 'e2', oldest_seq: 1, latest_seq: 3 };
    wire().refuse('subscribe', 'cursor_expired', log);
    expect(await value(stream.next())).toBe(11);
    const failed = stream.next();
    await expect(failed).rejects.toBeInstanceOf(CursorExpired);
    await expect(failed).rejects.toMatchObject({ log });
    expect(await stream.next()).toEqual({ done: true, value: undefined });
  });
});

it('lets the log keep what a slow caller does not take', async () => {
  const { stream, wire, wires, clock } = await quiet();
  for (let seq = 11; seq <= 3_000; seq++) wire().event(seq, seq - 1);
  expect(wire().closed).toBe(true);
  await clock.pass(600_000);
  expect(wires).toHaveLength(1);
  for (let seq = 11; seq <= 2_010; seq++) expect(await value(stream.next())).toBe(seq);
  await settle();
  wire().welcome();
  expect(wire().last('subscribe')).toMatchObject({ after: 2_010, epoch: 'e1' });
});
