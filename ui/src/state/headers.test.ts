// Headers of tool servers from their form.

import { expect, it } from 'vitest';
import { headersOf } from './headers';

it('are sent by name with their secret, and a prefix with its blank', () => {
  const fields = [
    { name: ' Authorization ', secret: 'wiki ', prefix: 'Bearer' },
    { name: 'X-Key', secret: 'key', prefix: ' ' },
  ];
  expect(headersOf(fields)).toEqual({ Authorization: { secret: 'wiki', prefix: 'Bearer ' }, 'X-Key': { secret: 'key' } });
  expect(headersOf([])).toEqual({});
});
