// Server-sent events, read from a `fetch` body because `EventSource` cannot send the bearer header; resumed after a break.

import { backoffMs } from './backoff.js';
import { pause, type Clock } from './clock.js';
import { Cursor, type Place } from './cursor.js';
import { isPassing } from './errors.js';
import { retryAfterOf } from './http.js';
import { isTerminal, type WireEvent } from './types.js';

/** The server writes a comment every 15 s; after three of them are missing, nobody is there. */
const SILENCE_MS = 45_000;

export interface Block {
  id: string | undefined;
  event: string | undefined;
  data: string | undefined;
}

/** Yields what stands between two blank lines; a position has an id and no data. `heard` is called for each piece. */
export async function* readBlocks(body: ReadableStream<Uint8Array>, heard?: () => void): AsyncGenerator<Block> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  let block: Block = { id: undefined, event: undefined, data: undefined };
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      heard?.();
      rest += decoder.decode(value, { stream: true });
      // A carriage return at the end may be the first half of a line's end.
      const lines = rest.split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop() ?? '';
      for (const line of lines) {
        if (line === '') {
          if (block.id !== undefined || block.data !== undefined) yield block;
          block = { id: undefined, event: undefined, data: undefined };
        } else {
          readField(block, line);
        }
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

function readField(block: Block, line: string): void {
  // Not by a pattern with `.`: that stops at U+2028 and U+2029, which end no line here and may stand in JSON as they are.
  const colon = line.indexOf(':');
  const name = colon < 0 ? line : line.slice(0, colon);
  const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
  // The format has no id with a NUL in it: no header could carry it back.
  if (name === 'id' && !value.includes('\0')) block.id = value;
  else if (name === 'event') block.event = value;
  else if (name === 'data') block.data = block.data === undefined ? value : `${block.data}\n${value}`;
}

export interface StreamSource {
  clock: Clock;
  /** Asks for the stream, from after `lastEventId` when there is one. */
  open(lastEventId: string | undefined, signal: AbortSignal): Promise<Response>;
  /** Whether the stream is one run's, and ends with it. */
  oneRun: boolean;
  after?: Place | undefined;
  /** Where to end, when only what has been is wanted. */
  until?: Place | undefined;
  signal?: AbortSignal | undefined;
}

/** Events of a stream over as many connections as it takes. Ends after a run's last event, at `until`, or when the signal fires. */
export async function* follow(source: StreamSource): AsyncGenerator<WireEvent, void> {
  const { clock, signal, until } = source;
  const cursor = new Cursor(source.after);
  const isThere = (): boolean => until !== undefined && (cursor.seq ?? -1) >= until.seq;
  for (let attempt = 0; !signal?.aborted; attempt++) {
    const line = new Line(clock, signal);
    let least = 0;
    try {
      const response = await source.open(eventId(cursor), line.signal);
      // The run has ended, and all its events were read.
      if (response.status === 204 || !response.body) return;
      for await (const block of readBlocks(response.body, () => line.heard())) {
        // The log cannot be read. Asking again at once, for ever, does not help.
        if (block.event === 'error') break;
        const event = readEvent(block);
        const step = event ? cursor.take(event.seq, event.prev) : move(cursor, block);
        if (step === 'gap') break;
        // From here on a break costs no more than the first wait.
        attempt = -1;
        if (block.id !== undefined) cursor.epoch = block.id.slice(0, block.id.lastIndexOf(':'));
        if (event && step !== 'duplicate') {
          // How long the caller takes is not the server's silence.
          line.rest();
          yield event;
          line.heard();
          if (signal?.aborted || (source.oneRun && isTerminal(event.type))) return;
        }
        if (isThere()) return;
      }
    } catch (error) {
      if (signal?.aborted) return;
      if (!line.silent && !isPassing(error)) throw error;
      least = retryAfterOf(error);
    } finally {
      line.close();
    }
    await pause(clock, backoffMs(Math.max(0, attempt), clock.random(), least), signal);
  }
}

/** One connection: given up after silence, or when the caller wants no more. */
class Line {
  silent = false;
  private readonly control = new AbortController();
  private cancel: () => void = () => undefined;

  constructor(
    private readonly clock: Clock,
    private readonly outer: AbortSignal | undefined,
  ) {
    outer?.addEventListener('abort', this.abort);
    this.heard();
  }

  get signal(): AbortSignal {
    return this.control.signal;
  }

  rest(): void {
    this.cancel();
  }

  heard(): void {
    this.cancel();
    this.cancel = this.clock.later(SILENCE_MS, () => {
      this.silent = true;
      this.abort();
    });
  }

  close(): void {
    this.cancel();
    this.control.abort();
    this.outer?.removeEventListener('abort', this.abort);
  }

  private readonly abort = (): void => this.control.abort();
}

function eventId({ epoch, seq }: Cursor): string | undefined {
  if (seq === undefined) return undefined;
  return epoch === undefined ? String(seq) : `${epoch}:${seq}`;
}

function move(cursor: Cursor, { id, data }: Block): undefined {
  const seq = Number(id?.slice(id.lastIndexOf(':') + 1));
  if (data === undefined && Number.isSafeInteger(seq)) cursor.move(seq);
}

function readEvent({ data }: Block): WireEvent | undefined {
  if (data === undefined) return undefined;
  try {
    const value = JSON.parse(data) as WireEvent;
    return typeof value.seq === 'number' && typeof value.run_id === 'string' ? value : undefined;
  } catch {
    return undefined;
  }
}
