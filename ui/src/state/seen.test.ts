// A feed is open while the page is seen, and goes on from where it was.

import { afterEach, expect, it, vi } from 'vitest';
import type { Place, WireEvent } from '../../client';
import { script } from './events.fixture';
import { whileSeen } from './seen';

let hidden = false;
vi.spyOn(document, 'hidden', 'get').mockImplementation(() => hidden);
afterEach(() => show(true));

function show(seen: boolean): void {
  hidden = !seen;
  document.dispatchEvent(new Event('visibilitychange'));
}

/** A feed of events that come when they are told to; it stays open until it is closed, or all have come. */
function source(events: WireEvent[]) {
  const asked: (Place | undefined)[] = [];
  let open = 0;
  let more = (): void => undefined;
  let ready = 0;
  const log = (count: number): void => {
    ready = count;
    more();
  };
  async function* feed(after: Place | undefined, signal: AbortSignal): AsyncGenerator<WireEvent> {
    asked.push(after);
    open += 1;
    try {
      for (let next = events.findIndex(({ seq }) => seq > (after?.seq ?? 0)); next < events.length; ) {
        if (signal.aborted) return;
        if (next < ready) yield events[next++] as WireEvent;
        else await new Promise<void>((resolve) => ((more = resolve), signal.addEventListener('abort', () => resolve())));
      }
    } finally {
      open -= 1;
    }
  }
  return { asked, feed, log, isOpen: () => open > 0 };
}

function read(feed: ReturnType<typeof source>['feed'], signal = new AbortController().signal) {
  const got: number[] = [];
  const done = (async () => {
    for await (const { seq } of whileSeen(feed, signal)) got.push(seq);
  })();
  return { got, done };
}

const s = script();
const events = [1, 2, 3].map((number) => s.event('agent_thinking', { message: `${number}` }));
const seqs = events.map(({ seq }) => seq);

it('is closed while nobody looks, and goes on after the last event', async () => {
  const { asked, feed, log, isOpen } = source(events);
  const { got, done } = read(feed);
  log(2);
  await vi.waitFor(() => expect(got).toEqual(seqs.slice(0, 2)));
  show(false);
  await vi.waitFor(() => expect(isOpen()).toBe(false));
  log(3);
  expect(asked).toHaveLength(1);
  show(true);
  await done;
  expect([got, asked]).toEqual([seqs, [undefined, { seq: seqs[1] }]]);
});

it('is not opened before somebody looks, nor when it was given up first', async () => {
  const { asked, feed, log } = source(events);
  const control = new AbortController();
  show(false);
  const { got, done } = read(feed, control.signal);
  control.abort();
  await done;
  const later = read(feed);
  expect(asked).toEqual([]);
  show(true);
  log(3);
  await later.done;
  expect([got, later.got]).toEqual([[], seqs]);
});
