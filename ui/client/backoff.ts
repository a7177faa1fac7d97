// How long to wait before the next attempt: a doubling ceiling with full jitter, so that clients do not return together.

const FIRST_MS = 500;
const LONGEST_MS = 30_000;

/** `attempt` counts from 0; `random` is in [0, 1). Not before `least`, which the server has named. */
export function backoffMs(attempt: number, random: number, least = 0): number {
  const ceiling = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(attempt, 16));
  return least + Math.round(ceiling * random);
}
