// Every way in which a request or a run can fail has words, and what can be done about it where that is the reader's to do.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { describeFailure } from '../state/errors';
import { texts } from '.';

const contract = JSON.parse(readFileSync(join(import.meta.dirname, '../../../openapi/netra.json'), 'utf8')) as {
  components: { schemas: Record<string, { enum?: string[] }> };
};
const codes = contract.components.schemas['ErrorCode']?.enum ?? [];
const of = (words: object, code: string): unknown => (words as Record<string, string>)[code];

it('knows the codes of the contract', () => {
  expect(codes.length).toBeGreaterThan(30);
});

it.each(codes)('%s has words', (code) => {
  expect(of(texts.requestErrors, code) ?? of(texts.runErrors, code)).toMatch(/^\p{Lu}.+\.$/u);
});

it.each(Object.keys(texts.runErrors))('a run that ends with %s is told of in words, not by its code', (code) => {
  expect(describeFailure({ code })).not.toContain(code);
  expect(describeFailure({ code, message: 'the last of it' })).toMatch(/^\p{Lu}.+: the last of it$/u);
  // Of these, the reader is the cause: there is nothing to be done.
  if (!['cancelled', 'denied', 'tool_denied'].includes(code)) expect(of(texts.advice, code)).toMatch(/^\p{Lu}.+\.$/u);
});
