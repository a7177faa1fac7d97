// The present, for durations that are still running. It ticks only while someone looks.

import { createSubscriber } from 'svelte/reactivity';

const TICK_MS = 500;

const subscribe = createSubscriber((update) => {
  const timer = setInterval(update, TICK_MS);
  return () => clearInterval(timer);
});

export function now(): number {
  subscribe();
  return Date.now();
}
