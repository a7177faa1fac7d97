// Reads a run's result for showing: the optimizer's report, a plain text, or whatever JSON it is.

import type { Json } from '../../client';
import type { Artifact } from './reducer';

export interface Fact {
  name: 'rows' | 'period' | 'input_tokens' | 'output_tokens' | 'bad_rows';
  value: number | [string, string];
}

export interface ReportResult {
  markdown: string;
  summary: string | undefined;
  facts: Fact[];
  artifacts: Partial<Artifact>[];
}

type Fields = { [key: string]: Json };

function fields(value: Json | undefined): Fields | undefined {
  return value !== null && typeof value === 'object' && !Array.isArray(value) ? value : undefined;
}

/** The report in a result, when there is one. Only what stands there is shown; nothing is filled in. */
export function reportOf(result: Json | undefined): ReportResult | undefined {
  const object = fields(result);
  const markdown = object?.['report_markdown'];
  if (!object || typeof markdown !== 'string' || markdown.trim() === '') return undefined;
  const summary = object['summary'];
  return {
    markdown,
    summary: typeof summary === 'string' && !says(markdown, summary) ? summary : undefined,
    facts: factsOf(fields(object['data'])),
    artifacts: artifactsOf(object['artifacts']),
  };
}

/** Whether a message is nothing but the result as JSON, as an agent with a schema gives it where it has no words beside it. */
export function isResultAsJson(text: string, result: Json | undefined): boolean {
  if (!fields(result) && !Array.isArray(result)) return false;
  try {
    return JSON.stringify(JSON.parse(text)) === JSON.stringify(result);
  } catch {
    return false;
  }
}

/** Whether the text holds these words in this order, however they are broken into lines and paragraphs. */
function says(text: string, words: string): boolean {
  const flat = (value: string): string => value.replace(/\s+/g, ' ').trim();
  return flat(text).includes(flat(words));
}

/** A result that is nothing but text, as `{"text": …}` or a string. */
export function plainText(result: Json | undefined): string | undefined {
  if (typeof result === 'string') return result;
  const object = fields(result);
  const text = object?.['text'];
  return object && typeof text === 'string' && Object.keys(object).length === 1 ? text : undefined;
}

function factsOf(data: Fields | undefined): Fact[] {
  if (!data) return [];
  const facts: Fact[] = [];
  const number = (name: Exclude<Fact['name'], 'period'>, from: Json | undefined): void => {
    if (typeof from === 'number') facts.push({ name, value: from });
  };
  number('rows', data['rows']);
  const { first_ts: first, last_ts: last } = data;
  if (typeof first === 'string' && typeof last === 'string') facts.push({ name: 'period', value: [first, last] });
  number('input_tokens', data['input_tokens']);
  number('output_tokens', data['output_tokens']);
  if (data['bad_rows'] !== 0) number('bad_rows', data['bad_rows']);
  return facts;
}

function artifactsOf(value: Json | undefined): Partial<Artifact>[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((entry) => {
    if (typeof entry === 'string') return entry.startsWith('fil_') ? [{ fileId: entry }] : [];
    const object = fields(entry);
    const id = object?.['file_id'] ?? object?.['id'];
    if (!object || typeof id !== 'string') return [];
    const artifact: Partial<Artifact> = { fileId: id };
    if (typeof object['name'] === 'string') artifact.name = object['name'];
    if (typeof object['media_type'] === 'string') artifact.mediaType = object['media_type'];
    if (typeof object['bytes'] === 'number') artifact.bytes = object['bytes'];
    return [artifact];
  });
}

/** The run's artifacts and those that its result names, each once. */
export function allArtifacts(made: Artifact[], named: Partial<Artifact>[]): Artifact[] {
  const all = [...made];
  for (const one of named) {
    if (!one.fileId || all.some((known) => known.fileId === one.fileId)) continue;
    all.push({
      fileId: one.fileId,
      name: one.name ?? one.fileId,
      mediaType: one.mediaType ?? mediaTypeOf(one.name ?? ''),
      bytes: one.bytes ?? 0,
    });
  }
  return all;
}

function mediaTypeOf(name: string): string {
  return name.endsWith('.svg') ? 'image/svg+xml' : 'application/octet-stream';
}

export function isImage(artifact: Artifact): boolean {
  return /^image\/(svg\+xml|png|jpeg|webp|gif)/.test(artifact.mediaType);
}
