// A first look into a file that is being attached: its columns, its first rows, and about how many there are.

export interface Preview {
  columns: string[];
  rows: string[][];
  /** How many rows the file has; from the size of those that were read when `exact` is false. */
  count: number;
  exact: boolean;
}

const HEAD_BYTES = 64 * 1024;
const ROWS_SHOWN = 5;
const COLUMNS_SHOWN = 40;
const CELL_CHARACTERS = 80;

/** Undefined for what is no table. */
export async function previewOf(file: File): Promise<Preview | undefined> {
  try {
    const kind = kindOf(file);
    if (kind === undefined || file.size === 0) return undefined;
    const head = await file.slice(0, HEAD_BYTES).text();
    return previewOfHead(head, kind, file.size);
  } catch {
    // What cannot be read here the server will tell of.
    return undefined;
  }
}

export type TableKind = 'delimited' | 'lines' | 'array';

function kindOf(file: File): TableKind | undefined {
  if (/\.(csv|tsv|tab)$/i.test(file.name) || file.type === 'text/csv') return 'delimited';
  if (/\.(jsonl|ndjson)$/i.test(file.name)) return 'lines';
  return /\.json$/i.test(file.name) || file.type === 'application/json' ? 'array' : undefined;
}

export function previewOfHead(head: string, kind: TableKind, bytes: number): Preview | undefined {
  const whole = new TextEncoder().encode(head).length >= bytes;
  const text = head.replace(/^\uFEFF/, '');
  if (kind === 'delimited') return delimited(text, bytes, whole);
  const { values, read } = kind === 'lines' ? jsonLines(text, whole) : jsonArray(text, whole);
  return values.length === 0 ? undefined : ofObjects(values, read, bytes, whole);
}

function delimited(text: string, bytes: number, whole: boolean): Preview | undefined {
  const [first = ''] = text.split(/\r?\n/, 1);
  const delimiter = [',', ';', '\t', '|'].reduce((best, one) => (first.split(one).length > first.split(best).length ? one : best));
  const { records, read } = recordsOf(text, delimiter, whole);
  const [header, ...rows] = records;
  if (!header || header.every((name) => name === '')) return undefined;
  return {
    columns: header.slice(0, COLUMNS_SHOWN).map(cut),
    rows: rows.slice(0, ROWS_SHOWN).map((row) => row.slice(0, COLUMNS_SHOWN).map(cut)),
    ...counted(rows.length, read, bytes, whole),
  };
}

/** Reads records with quoted fields; `read` is how many characters the complete ones take. */
function recordsOf(text: string, delimiter: string, whole: boolean): { records: string[][]; read: number } {
  const records: string[][] = [];
  let record: string[] = [];
  let field = '';
  let quoted = false;
  let read = 0;
  const endRecord = (at: number): void => {
    record.push(field);
    if (record.length > 1 || record[0] !== '') records.push(record);
    record = [];
    field = '';
    read = at;
  };
  for (let at = 0; at < text.length; at++) {
    const sign = text[at] as string;
    if (quoted) {
      if (sign !== '"') field += sign;
      else if (text[at + 1] === '"') field += text[++at];
      else quoted = false;
    } else if (sign === '"' && field === '') quoted = true;
    else if (sign === delimiter) {
      record.push(field);
      field = '';
    } else if (sign === '\n') endRecord(at + 1);
    else if (sign !== '\r') field += sign;
  }
  // The last record of a head is cut in the middle; that of a whole file is not.
  if (whole && (field !== '' || record.length > 0)) endRecord(text.length);
  return { records, read };
}

function jsonLines(text: string, whole: boolean): { values: object[]; read: number } {
  const lines = text.split('\n');
  if (!whole) lines.pop();
  const values = lines.filter((line) => line.trim() !== '').map((line) => JSON.parse(line) as object);
  return { values, read: lines.join('\n').length + 1 };
}

/** Objects of an array, also of one whose end is missing. */
function jsonArray(text: string, whole: boolean): { values: object[]; read: number } {
  if (whole) {
    const value: unknown = JSON.parse(text);
    return { values: Array.isArray(value) ? (value as object[]) : [], read: text.length };
  }
  if (!text.trimStart().startsWith('[')) return { values: [], read: 0 };
  // From the back: where an object ends and what is before it can be read as an array.
  for (let end = text.lastIndexOf('}'); end > 0; end = text.lastIndexOf('}', end - 1)) {
    try {
      return { values: JSON.parse(`${text.slice(0, end + 1)}]`) as object[], read: end + 1 };
    } catch {
      // An object within an object; the one before may be whole.
    }
  }
  return { values: [], read: 0 };
}

function ofObjects(values: object[], read: number, bytes: number, whole: boolean): Preview | undefined {
  if (typeof values[0] !== 'object' || values[0] === null) return undefined;
  const columns = [...new Set(values.slice(0, 100).flatMap((value) => Object.keys(value ?? {})))].slice(0, COLUMNS_SHOWN);
  const cell = (value: unknown): string => cut(value === undefined ? '' : typeof value === 'string' ? value : JSON.stringify(value));
  const rows = values.slice(0, ROWS_SHOWN).map((value) => columns.map((name) => cell((value as Record<string, unknown>)[name])));
  return { columns: columns.map(cut), rows, ...counted(values.length, read, bytes, whole) };
}

function counted(seen: number, read: number, bytes: number, whole: boolean): Pick<Preview, 'count' | 'exact'> {
  if (whole || read === 0) return { count: seen, exact: whole };
  return { count: Math.round((seen * bytes) / read), exact: false };
}

function cut(text: string): string {
  return text.length > CELL_CHARACTERS ? `${text.slice(0, CELL_CHARACTERS - 1)}…` : text;
}
