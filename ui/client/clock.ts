// Time and chance, given from outside so that tests need not wait.

export interface Clock {
  /** Calls `act` after some time; gives what takes it back. */
  later(ms: number, act: () => void): () => void;
  /** In [0, 1). */
  random(): number;
}

export const realClock: Clock = {
  later(ms, act) {
    const timer = setTimeout(act, ms);
    return () => clearTimeout(timer);
  },
  random: Math.random,
};

/** Waits; the signal ends the wait early. */
export function pause(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const done = (): void => {
      cancel();
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const cancel = clock.later(ms, done);
    signal?.addEventListener('abort', done);
  });
}
