// A feed that is open only while somebody looks: each holds a connection, and a browser has few of them for all of its tabs.

import type { Place, WireEvent } from '../../client';

export type Feed = (after: Place | undefined, signal: AbortSignal) => AsyncIterable<WireEvent>;

/** Closes the feed when the page is hidden, and goes on after the last event when it is shown again. Ends where the feed does. */
export async function* whileSeen(feed: Feed, signal: AbortSignal): AsyncGenerator<WireEvent, void> {
  let after: Place | undefined;
  for (;;) {
    await becomes(() => !document.hidden, signal);
    if (signal.aborted) return;
    const look = new AbortController();
    void becomes(() => document.hidden, signal).then(() => look.abort());
    for await (const event of feed(after, look.signal)) {
      after = { seq: event.seq };
      yield event;
    }
    if (!look.signal.aborted) return;
  }
}

/** Waits until the page is so, or nobody waits any more. */
function becomes(so: () => boolean, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (!so() && !signal.aborted) return;
      document.removeEventListener('visibilitychange', look);
      signal.removeEventListener('abort', look);
      resolve();
    };
    document.addEventListener('visibilitychange', look);
    signal.addEventListener('abort', look);
    look();
  });
}
