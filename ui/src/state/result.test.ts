// What is read out of a result, and that nothing is made up.

import { expect, it } from 'vitest';
import { allArtifacts, isResultAsJson, plainText, reportOf } from './result';

it('finds the report, its figures and its files', () => {
  const report = reportOf({
    report_markdown: '# R',
    summary: 'short',
    data: { rows: 3, first_ts: 'a', last_ts: 'b', input_tokens: 5, bad_rows: 0 },
    artifacts: ['fil_1', { file_id: 'fil_2', name: 'c.svg' }, 7],
  });
  expect(report).toEqual({
    markdown: '# R',
    summary: 'short',
    facts: [{ name: 'rows', value: 3 }, { name: 'period', value: ['a', 'b'] }, { name: 'input_tokens', value: 5 }],
    artifacts: [{ fileId: 'fil_1' }, { fileId: 'fil_2', name: 'c.svg' }],
  });
});

it('is no report without its text, and says the summary once', () => {
  expect(reportOf({ report_markdown: '  ', data: { rows: 1 } })).toBeUndefined();
  expect(reportOf(null)).toBeUndefined();
  expect(reportOf({ report_markdown: 'It is short.', summary: 'It is short.' })?.summary).toBeUndefined();
  expect(reportOf({ report_markdown: '# R\n\nIt is short.\n\nAnd true.', summary: 'It is short. And true.' })?.summary).toBeUndefined();
  expect(reportOf({ report_markdown: 'It is long.', summary: 'It is short.' })?.summary).toBe('It is short.');
});

it('knows a plain text, and lists files once', () => {
  expect(plainText({ text: 'hi' })).toBe('hi');
  expect(plainText({ text: 'hi', more: 1 })).toBeUndefined();
  const made = [{ fileId: 'fil_1', name: 'a.csv', mediaType: 'text/csv', bytes: 2 }];
  expect(allArtifacts(made, [{ fileId: 'fil_1' }, { fileId: 'fil_2', name: 'b.svg' }]).map((one) => [one.fileId, one.mediaType])).toEqual([
    ['fil_1', 'text/csv'],
    ['fil_2', 'image/svg+xml'],
  ]);
});

it('knows a message that is nothing but the result', () => {
  const result = { text: 'Forty-two.', figures: [{ name: 'answer', value: 42 }] };
  expect(isResultAsJson(' {"text": "Forty-two.", "figures": [{"name": "answer", "value": 42.0}]}', result)).toBe(true);
  expect(isResultAsJson('{"text": "Forty-two."}', result)).toBe(false);
  expect(isResultAsJson('Forty-two.', result)).toBe(false);
  expect(isResultAsJson('"a text"', 'a text')).toBe(false);
});
