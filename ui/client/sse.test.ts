// Server-sent events: read from pieces cut at any place, and resumed after a break without a loss or a repeat.

import { describe, expect, it } from 'vitest';
import { ApiError, CursorExpired } from './errors.js';
import { dice, PlayedClock, settle } from './played.fixture.js';
import { follow, readBlocks, type StreamSource } from './sse.js';

function bodyOf(text: string, size = 1_000, end: 'close' | 'break' | 'hang' = 'close'): ReadableStream<Uint8Array> {
  const bytes = new TextEncoder().encode(text);
  let at = 0;
  return new ReadableStream<Uint8Array>({
    pull(control) {
      if (at < bytes.length) return control.enqueue(bytes.slice(at, (at += size)));
      if (end === 'close') control.close();
      else if (end === 'break') control.error(new TypeError('terminated'));
      return end === 'hang' ? new Promise(() => undefined) : undefined;
    },
  });
}

function eventText(seq: number, prev: number, type = 'agent_thinking'): string {
  return `id: e1:${seq}\nevent: ${type}\ndata: ${JSON.stringify({ seq, prev, type, run_id: 'run_1' })}\n\n`;
}

it.each([1, 2, 7, 1000])('reads blocks from pieces of %i bytes', async (size) => {
  const text = ': hello\n\nid: e:1\nevent: a\ndata: {"ä":1}\n\nid:e:2\r\n\r\ndata: x\r\ndata: y\r\n\r\ndata: cut';
  const seen = [];
  for await (const block of readBlocks(bodyOf(text, size))) seen.push(block);
  expect(seen).toEqual([
    { id: 'e:1', event: 'a', data: '{"ä":1}' },
    { id: 'e:2', event: undefined, data: undefined },
    { id: undefined, event: undefined, data: 'x\ny' },
  ]);
});

it('ends a line where the format does, and nowhere else', async () => {
  const data = JSON.stringify({ text: 'a\u2028b\u2029c\u0085d\fe: f' });
  const seen = [];
  for await (const block of readBlocks(bodyOf(`id: e:1\ndata: ${data}\n\ndata\n\n`))) seen.push(block);
  expect(seen).toEqual([
    { id: 'e:1', event: undefined, data },
    { id: undefined, event: undefined, data: '' },
  ]);
});

it('has no id that no header could carry back', async () => {
  const seen = [];
  for await (const block of readBlocks(bodyOf('id: e\0:1\ndata: x\n\nid: e\0:1\n\n'))) seen.push(block);
  expect(seen).toEqual([{ id: undefined, event: undefined, data: 'x' }]);
});

type Answer = { text: string; end?: 'close' | 'break' | 'hang' } | { status: number } | Error;

/** A stream whose connections answer one thing after the other. */
function played(answers: Answer[], options: Partial<StreamSource> = {}) {
  const clock = new PlayedClock(() => 0.5);
  const asked: (string | undefined)[] = [];
  const open = async (last: string | undefined, signal: AbortSignal): Promise<Response> => {
    asked.push(last);
    const answer = answers.shift();
    if (!answer) throw new Error('asked once too often');
    if (answer instanceof Error) throw answer;
    if ('status' in answer) return new Response(null, { status: answer.status });
    const body = bodyOf(answer.text, 1_000, answer.end);
    return new Response(body.pipeThrough(new TransformStream(), { signal }));
  };
  const seen: number[] = [];
  const events = follow({ clock, open, oneRun: true, ...options });
  const done = (async () => {
    for await (const event of events) seen.push(event.seq);
  })();
  done.catch(() => undefined);
  const run = async (): Promise<void> => {
    for (let turn = 0; turn < 20; turn++) {
      await new Promise((resolve) => setImmediate(resolve));
      await clock.pass(1_000);
    }
  };
  return { asked, seen, done, run, clock };
}

describe('a stream', () => {
  it('ends where it was to be read up to, by an event or by a position alone', async () => {
    const until = { epoch: 'e1', seq: 7 };
    const moved = played([{ text: eventText(3, 2) + 'id: e1:6\n\n' + 'id: e1:7\n\n' + eventText(8, 7), end: 'hang' }], { until });
    await moved.run();
    await moved.done;
    const told = played([{ text: eventText(3, 2) + eventText(7, 3) + eventText(8, 7), end: 'hang' }], { until });
    await told.run();
    await told.done;
    expect([moved.seen, told.seen]).toEqual([[3], [3, 7]]);
  });

  it('goes on after the last event when it breaks, and ends with the run', async () => {
    const { asked, seen, done, run } = played([
      { text: eventText(3, 2) + eventText(4, 3), end: 'break' },
      new TypeError('fetch failed'),
      { text: eventText(4, 3) + 'id: e1:7\n\n' },
      { text: eventText(8, 7) + eventText(9, 8, 'run_completed') + eventText(10, 9), end: 'hang' },
    ]);
    await run();
    await done;
    expect(seen).toEqual([3, 4, 8, 9]);
    expect(asked).toEqual([undefined, 'e1:4', 'e1:4', 'e1:7']);
  });

  it('asks again from before a gap', async () => {
    const { asked, seen, done, run } = played([
      { text: eventText(3, 2) + eventText(9, 5), end: 'hang' },
      { text: eventText(5, 3) + eventText(9, 5, 'run_failed') },
    ]);
    await run();
    await done;
    expect(seen).toEqual([3, 5, 9]);
    expect(asked).toEqual([undefined, 'e1:3']);
  });

  it('is asked for less and less often while the log cannot be read', async () => {
    const away = { text: 'event: error\ndata: {"error":{"code":"store_unavailable","message":""}}\n\n' };
    const { asked, done, run, clock } = played([away, away, away, away, { status: 204 }]);
    const begun = clock.now;
    const times: number[] = [];
    for (let known = 0; asked.length < 5; ) {
      await new Promise((resolve) => setImmediate(resolve));
      await clock.pass(50);
      if (asked.length > known) times.push(clock.now - begun);
      known = asked.length;
    }
    await run();
    await done;
    const waits = times.slice(1).map((time, at) => time - (times[at] ?? 0));
    expect(waits[3]).toBeGreaterThan(4 * (waits[0] ?? 0));
  });

  it('is over when the server says that nothing follows', async () => {
    const { seen, done, run } = played([{ text: eventText(3, 2) }, { status: 204 }]);
    await run();
    await done;
    expect(seen).toEqual([3]);
  });

  it('begins after a place, and fails when the log does not hold it', async () => {
    const log = { epoch: 'e2', oldest_seq: 1, latest_seq: 2 };
    const gone = new CursorExpired({ code: 'cursor_expired', message: '', details: log });
    const { asked, done } = played([gone], { after: { epoch: 'e1', seq: 7 } });
    await expect(done).rejects.toMatchObject({ code: 'cursor_expired', log });
    expect(asked).toEqual(['e1:7']);
  });

  it('waits as long as the server has said, and gives up what stays refused', async () => {
    const { asked, done, clock } = played([
      new ApiError(503, { code: 'draining', message: '' }, 10_000),
      new ApiError(404, { code: 'not_found', message: '' }),
    ]);
    await clock.pass(10_249);
    expect(asked).toHaveLength(1);
    await clock.pass(1);
    await expect(done).rejects.toMatchObject({ code: 'not_found' });
  });

  it('is asked for again after silence', async () => {
    const { asked, seen, done, run, clock } = played([
      { text: eventText(3, 2), end: 'hang' },
      { text: eventText(4, 3, 'run_cancelled') },
    ]);
    await new Promise((resolve) => setImmediate(resolve));
    expect(seen).toEqual([3]);
    await clock.pass(44_000);
    expect(asked).toHaveLength(1);
    await clock.pass(2_000);
    await run();
    await done;
    expect(seen).toEqual([3, 4]);
  });

  it.each([true, false])('ends quietly when the signal fires (before: %s)', async (before) => {
    const control = new AbortController();
    if (before) control.abort();
    const { done, seen } = played([{ text: eventText(3, 2), end: 'hang' }], { signal: control.signal });
    await new Promise((resolve) => setImmediate(resolve));
    control.abort();
    await done;
    expect(seen).toEqual(before ? [] : [3]);
  });
});

it.each(Array.from({ length: 50 }, (_, seed) => seed))('gives the log whatever is cut, lost or repeated (%i)', async (seed) => {
  const random = dice(seed);
  const log = Array.from({ length: 40 }, (_, index) => 2 * index + 1);
  const clock = new PlayedClock(random);
  const open = async (last: string | undefined): Promise<Response> => {
    let prev = Number(last?.split(':')[1] ?? 0);
    let text = '';
    for (const seq of log.filter((one) => one > prev)) {
      if (random() < 0.1) break;
      // Where a stream from the start of a run begins only its first event tells, so that one is not lost.
      const lost = prev > 0 && random() < 0.1;
      const block = eventText(seq, prev, seq === log.at(-1) ? 'run_completed' : 'agent_thinking');
      prev = seq;
      if (!lost) text += block;
      if (random() < 0.1) text += block;
    }
    // Cut in the middle of a block, too.
    return new Response(bodyOf(text.slice(0, Math.ceil(text.length * (random() < 0.5 ? 1 : random()))), 100, 'break'));
  };
  const seen: number[] = [];
  let ended = false;
  const done = (async () => {
    for await (const event of follow({ clock, open, oneRun: true })) seen.push(event.seq);
    ended = true;
  })();
  while (!ended) {
    await new Promise((resolve) => setImmediate(resolve));
    await clock.pass(10_000);
    await settle();
  }
  await done;
  expect(seen).toEqual(log);
});
