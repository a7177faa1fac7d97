// How values are said in short, and what is left out then.

import { expect, it } from 'vitest';
import { argumentLine, duration, period, taskLine } from './format';

it('says the hours of a log of hours, and the days of a log of days', () => {
  const hours = period('2023-11-16T18:17:03.979960Z', '2023-11-16T19:14:19.928016Z');
  expect(hours).toContain('18:17');
  expect(hours).toContain('19:14');
  expect(hours).toMatch(/UTC$/);
  expect(period('2026-10-01T00:00:00Z', '2026-10-31T23:00:00Z')).not.toMatch(/\d:\d|UTC/);
  expect(period('a', 'b')).toBe('a – b');
});

it('names plain arguments before tables, and tables when there is nothing else', () => {
  expect(argumentLine({ bins: [{ from: 0 }], kind: 'histogram', top: 3 })).toBe('kind: histogram, top: 3');
  expect(argumentLine({ files: ['a'] })).toBe('files: ["a"]');
  expect(argumentLine(null)).toBe('');
});

it('shows the words of a task and not its data, whole or cut', () => {
  expect(taskLine('Cut the\ncost')).toBe('Cut the cost');
  expect(taskLine({ text: 'why', files: [] })).toBe('why');
  expect(taskLine({ files: [] })).toBe('');
  expect(taskLine('{"files":[{"na…')).toBe('');
  expect(taskLine(null)).toBe('');
});

it('says how long something took, without what is nothing', () => {
  const all: [number, string][] = [[7, '7 ms'], [1_500, '1.5 s'], [59_600, '60 s'], [60_000, '1 min'], [61_000, '1 min 1 s'], [86_400_000, '24 h'], [5_400_000, '1 h 30 min']];
  for (const [ms, words] of all) expect(duration(ms)).toBe(words);
});
