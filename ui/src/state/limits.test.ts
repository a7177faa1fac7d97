// Limits between the fields of a form and what is sent.

import { expect, it } from 'vitest';
import { LIMITS, limitsOf, written } from './limits';

it('what is written is sent as numbers, and what is empty is not sent', () => {
  expect(limitsOf({ steps: '9', depth: 3, sockets: '', attempts: null, budget_usd: ' 0.5 ' })).toEqual({ steps: 9, depth: 3, budget_usd: 0.5 });
  expect(limitsOf({ steps: 0 })).toEqual({ steps: 0 });
  expect(limitsOf({})).toEqual({});
});

it('comes back as it was', () => {
  expect(limitsOf(written({ steps: 9, budget_usd: 1.25 }))).toEqual({ steps: 9, budget_usd: 1.25 });
  expect(written({ steps: null })).toEqual({});
  expect(written(undefined)).toEqual({});
});

it('has every limit once', () => {
  expect(new Set(LIMITS).size).toBe(20);
});
