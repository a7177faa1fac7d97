// A first look into files of all kinds, whole and cut in the middle.

import { describe, expect, it } from 'vitest';
import { previewOfHead } from './preview';

describe('delimited files', () => {
  it('reads quotes, line ends within them, and no last line end', () => {
    const text = 'id;name\r\n1;"a ""b"";\nc"\r\n2;d';
    expect(previewOfHead(text, 'delimited', text.length)).toEqual({ columns: ['id', 'name'], rows: [['1', 'a "b";\nc'], ['2', 'd']], count: 2, exact: true });
  });

  it('reckons the rows of a long file from the beginning that was read, without the record that is cut', () => {
    const head = `a,b\n${'1,2\n'.repeat(99)}1,`;
    const preview = previewOfHead(head, 'delimited', 4_000);
    expect(preview).toMatchObject({ exact: false });
    expect(preview?.count).toBeGreaterThan(950);
    expect(preview?.count).toBeLessThan(1_050);
    expect(preview?.rows).toHaveLength(5);
  });

  it('sees nothing in an empty file', () => {
    expect(previewOfHead('\n\n', 'delimited', 2)).toBeUndefined();
  });
});

describe('JSON', () => {
  it('takes the columns of all lines together', () => {
    const text = '{"a":1}\n{"b":{"c":2}}\n';
    expect(previewOfHead(text, 'lines', text.length)).toEqual({ columns: ['a', 'b'], rows: [['1', ''], ['', '{"c":2}']], count: 2, exact: true });
  });

  it('reads the objects of an array whose end is missing', () => {
    const head = '[{"a":{"x":1}},{"a":{"x":2}},{"a":{"x"';
    expect(previewOfHead(head, 'array', 10_000)).toMatchObject({ columns: ['a'], rows: [['{"x":1}'], ['{"x":2}']], exact: false });
  });

  it('is no table when it is one object or broken', () => {
    expect(previewOfHead('{"a":1}', 'array', 7)).toBeUndefined();
    expect(() => previewOfHead('[{"a"]', 'array', 6)).toThrow();
  });
});
