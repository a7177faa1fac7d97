// What goes to an agent: words, or the object that it asks for.

import { expect, it } from 'vitest';
import type { Agent } from '../../client';
import { fieldsOf, inputFor, NotAnObject, takesText } from './input';

const agent = (input_schema: unknown): Agent => ({ name: 'a', description: '', kind: 'script', tools: [], ready: true, input_schema });
const plain = agent({ properties: { text: { type: 'string' } }, required: ['text'] });
const more = agent({ properties: { text: { type: 'string' }, assume: { type: 'object', description: 'what to assume' } }, required: ['text'] });
const objects = agent({ properties: { city: { type: 'string' } }, required: ['city'] });

it('is the text, also one that looks like an object, where an agent takes nothing else', () => {
  expect(inputFor(plain, '{"text": "x"}')).toBe('{"text": "x"}');
  expect(inputFor(undefined, 'x')).toBe('x');
});

it('is an object where one was written and the agent takes more than a text', () => {
  expect(inputFor(more, 'why?')).toBe('why?');
  expect(inputFor(more, '{"text": "why?", "assume": {}}')).toEqual({ text: 'why?', assume: {} });
  expect(fieldsOf(more)).toEqual([{ name: 'assume', required: false, about: 'what to assume' }]);
});

it('must be an object for an agent that takes no text', () => {
  expect(takesText(objects)).toBe(false);
  expect(inputFor(objects, '{"city": "Ulm"}')).toEqual({ city: 'Ulm' });
  expect(() => inputFor(objects, 'Ulm')).toThrow(NotAnObject);
});
