// Days of usage for a chart: without holes, and each with the number that is looked at.

import type { DayUsage } from '../../client';

export const MEASURES = ['runs', 'tokens', 'cost', 'model_calls', 'tool_calls'] as const;
export type Measure = (typeof MEASURES)[number];
const DAY_MS = 86_400_000;
const LEAST_DAYS = 14;

export function valueOf(day: DayUsage, measure: Measure): number {
  if (measure === 'tokens') return day.input_tokens + day.output_tokens;
  if (measure === 'cost') return day.cost_usd ?? 0;
  return day[measure];
}

/** From the first day to the last, oldest first; days on which nothing was used are there as well. */
export function everyDay(days: DayUsage[]): DayUsage[] {
  const known = new Map(days.map((day) => [day.day, day]));
  const sorted = [...known.keys()].sort();
  const last = Date.parse(sorted.at(-1) ?? '');
  const first = Math.min(Date.parse(sorted[0] ?? ''), last - (LEAST_DAYS - 1) * DAY_MS);
  if (Number.isNaN(first)) return [];
  const all: DayUsage[] = [];
  for (let at = first; at <= last; at += DAY_MS) {
    const day = new Date(at).toISOString().slice(0, 10);
    all.push(known.get(day) ?? { day, runs: 0, input_tokens: 0, output_tokens: 0, model_calls: 0, tool_calls: 0, cost_usd: 0 });
  }
  return all;
}
