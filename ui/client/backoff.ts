// How long to wait before the next attempt to connect: doubling, with jitter so that clients do not return together.

const FIRST_MS = 500;
const LONGEST_MS = 30_000;

/** `attempt` counts from 0; `random` is in [0, 1). Between half and all of the doubled time. */
export function backoffMs(attempt: number, random: number): number {
  const ceiling = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(attempt, 16));
  return Math.round(ceiling / 2 + (ceiling / 2) * random);
}
