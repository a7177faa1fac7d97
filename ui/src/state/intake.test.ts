// Events are taken in order and in portions.

import { expect, it } from 'vitest';
import { Intake } from './intake';

function desk(costMs: number): { intake: Intake<number>; seen: number[]; frames: (() => void)[] } {
  let clock = 0;
  const seen: number[] = [];
  const frames: (() => void)[] = [];
  const fold = (item: number): void => {
    clock += costMs;
    seen.push(item);
  };
  return { intake: new Intake(fold, (work) => frames.push(work), () => clock), seen, frames };
}

it('folds nothing before the frame, then all in order', () => {
  const { intake, seen, frames } = desk(0.01);
  for (let i = 0; i < 100; i++) intake.push(i);
  expect(seen).toEqual([]);
  expect(frames).toHaveLength(1);
  frames.shift()?.();
  expect(seen).toEqual(Array.from({ length: 100 }, (_, i) => i));
  expect(frames).toHaveLength(0);
});

it('leaves to the next frame what this one has no time for', () => {
  const { intake, seen, frames } = desk(3);
  for (let i = 0; i < 7; i++) intake.push(i);
  frames.shift()?.();
  expect(seen).toEqual([0, 1, 2]);
  intake.push(7);
  expect(frames).toHaveLength(1);
  while (frames.length > 0) frames.shift()?.();
  expect(seen).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
});

it('forgets what was cleared, and takes what comes after', () => {
  const { intake, seen, frames } = desk(1);
  intake.push(1);
  intake.clear();
  intake.push(2);
  while (frames.length > 0) frames.shift()?.();
  expect(seen).toEqual([2]);
});
