// The REST interface, one class for each noun of the contract.

import { backoffMs } from './backoff.js';
import { pause } from './clock.js';
import type { Place } from './cursor.js';
import { ApiError, isPassing } from './errors.js';
import { ANSWER_MS, failure, randomKey, retryAfterOf, type Http } from './http.js';
import { follow } from './sse.js';
import { hasEnded, type Agent, type Approval, type WireEvent, type File, type Message, type Page, type Run, type StartRun, type Thread, type Tool } from './types.js';

/** How long the server is asked to hold the question for a run's end. */
const HELD_MS = 60_000;

export interface Listing {
  cursor?: string | undefined;
  limit?: number | undefined;
}

/** A run to start: in a new thread, unless one is named. */
export interface NewRun extends StartRun {
  thread_id?: string | undefined;
}

export interface Repeatable {
  /** The same key makes the same run, also from another process; a random one when absent. */
  idempotencyKey?: string | undefined;
}

export class Runs {
  constructor(private readonly http: Http) {}

  start({ thread_id, ...run }: NewRun, { idempotencyKey: key = randomKey() }: Repeatable = {}): Promise<Run> {
    const path = thread_id === undefined ? '/api/runs' : `/api/threads/${thread_id}/runs`;
    return this.http.json('POST', path, { body: run, key });
  }

  list(listing: Listing = {}): Promise<Page<Run>> {
    return this.http.json('GET', '/api/runs', { query: { ...listing } });
  }

  get(id: string): Promise<Run> {
    return this.http.json('GET', `/api/runs/${id}`);
  }

  async cancel(id: string): Promise<void> {
    await this.http.call('POST', `/api/runs/${id}/cancel`);
  }

  /** Runs the same input again. */
  retry(id: string, { idempotencyKey: key = randomKey() }: Repeatable = {}): Promise<Run> {
    return this.http.json('POST', `/api/runs/${id}/retry`, { key });
  }

  /** Waits for the end of a run, over as many requests as it takes. The signal makes it fail. */
  async wait(id: string, { signal }: { signal?: AbortSignal } = {}): Promise<Run> {
    const { clock } = this.http;
    for (let attempt = 0; ; attempt++) {
      signal?.throwIfAborted();
      let least = 0;
      try {
        const query = { timeout_ms: HELD_MS };
        const run = await this.http.within(HELD_MS + ANSWER_MS, signal, async (signal) => {
          const response = await this.http.once('GET', `/api/runs/${id}/wait`, { query, signal });
          return (await response.json()) as Run;
        });
        if (hasEnded(run.status)) return run;
        attempt = 0;
      } catch (error) {
        if (!isPassing(error)) throw error;
        least = retryAfterOf(error);
      }
      // A server that goes down answers at once, so even a good answer is no reason to ask without a pause.
      await pause(clock, backoffMs(attempt, clock.random(), least), signal);
    }
  }

  /**
   * The events of a run from its start, or from after a place, to its last one, or to `until`, which is for who reads what has been
   * and has a socket for the rest. Ends early when the signal fires.
   */
  events(id: string, options: { after?: Place | undefined; until?: Place | undefined; deltas?: boolean; signal?: AbortSignal } = {}): AsyncGenerator<WireEvent, void> {
    return follow({
      ...options,
      clock: this.http.clock,
      oneRun: true,
      open: (last, signal) => stream(this.http, `/api/runs/${id}/events`, { deltas: options.deltas }, last, signal),
    });
  }
}

/** Asks for server-sent events. */
export function stream(
  http: Http,
  path: string,
  query: Record<string, string | boolean | undefined>,
  lastEventId: string | undefined,
  signal: AbortSignal,
): Promise<Response> {
  const headers = { Accept: 'text/event-stream', ...(lastEventId === undefined ? {} : { 'Last-Event-ID': lastEventId }) };
  return http.once('GET', path, { query, headers, signal });
}

export class Threads {
  constructor(private readonly http: Http) {}

  list(listing: Listing & { q?: string } = {}): Promise<Page<Thread>> {
    return this.http.json('GET', '/api/threads', { query: { ...listing } });
  }

  create(thread: { title?: string; metadata?: Record<string, unknown> } = {}): Promise<Thread> {
    return this.http.json('POST', '/api/threads', { body: thread, key: randomKey() });
  }

  get(id: string): Promise<Thread> {
    return this.http.json('GET', `/api/threads/${id}`);
  }

  update(id: string, change: { title?: string; metadata?: Record<string, unknown> }): Promise<Thread> {
    return this.http.json('PATCH', `/api/threads/${id}`, { body: change });
  }

  async delete(id: string): Promise<void> {
    await this.http.call('DELETE', `/api/threads/${id}`);
  }

  messages(id: string, listing: Listing = {}): Promise<Page<Message>> {
    return this.http.json('GET', `/api/threads/${id}/messages`, { query: { limit: 100, ...listing } });
  }

  /** A new thread with the messages up to one. */
  fork(id: string, afterMessageId?: string): Promise<Thread> {
    const body = afterMessageId === undefined ? {} : { after_message_id: afterMessageId };
    return this.http.json('POST', `/api/threads/${id}/fork`, { body, key: randomKey() });
  }
}

export class Files {
  constructor(private readonly http: Http) {}

  list(listing: Listing = {}): Promise<Page<File>> {
    return this.http.json('GET', '/api/files', { query: { ...listing } });
  }

  get(id: string): Promise<File> {
    return this.http.json('GET', `/api/files/${id}`);
  }

  async delete(id: string): Promise<void> {
    await this.http.call('DELETE', `/api/files/${id}`);
  }

  content(id: string): Promise<Blob> {
    return this.http.blob(`/api/files/${id}/content`);
  }

  /** `progress` is told fractions where there is an XMLHttpRequest: `fetch` does not tell the progress of an upload. */
  async upload(
    name: string,
    content: Blob,
    { progress, signal }: { progress?: (fraction: number) => void; signal?: AbortSignal } = {},
  ): Promise<File> {
    const key = randomKey();
    if (progress && 'XMLHttpRequest' in globalThis) return this.uploadWatched(name, content, key, progress, signal);
    const headers = { 'Content-Type': content.type || 'application/octet-stream' };
    return this.http.json('POST', '/api/files', { query: { name }, raw: content, headers, key, signal });
  }

  private async uploadWatched(...upload: Parameters<typeof send> extends [Http, ...infer Rest] ? Rest : never): Promise<File> {
    try {
      return await send(this.http, ...upload);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 401 || !(await this.http.renew())) throw error;
      return send(this.http, ...upload);
    }
  }
}

function send(http: Http, name: string, content: Blob, key: string, progress: (fraction: number) => void, signal?: AbortSignal): Promise<File> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open('POST', http.address('/api/files', { name }));
    request.setRequestHeader('Authorization', `Bearer ${http.token ?? ''}`);
    request.setRequestHeader('Content-Type', content.type || 'application/octet-stream');
    request.setRequestHeader('Idempotency-Key', key);
    request.upload.onprogress = (event) => {
      if (event.lengthComputable && event.total > 0) progress(event.loaded / event.total);
    };
    request.onload = () => {
      if (request.status >= 200 && request.status < 300) resolve(JSON.parse(request.responseText) as File);
      else reject(failure(request.status, request.responseText, request.getResponseHeader('Retry-After')));
    };
    request.onerror = () => reject(new TypeError('network'));
    request.onabort = () => reject(new DOMException('aborted', 'AbortError'));
    signal?.addEventListener('abort', () => request.abort(), { once: true });
    request.send(content);
  });
}

/** A list whose size is small by nature. */
export class Catalogue<T> {
  constructor(
    private readonly http: Http,
    private readonly path: string,
  ) {}

  /** All of it, page by page. */
  async list(): Promise<T[]> {
    const items: T[] = [];
    let cursor: string | undefined;
    do {
      const page: Page<T> = await this.http.json('GET', this.path, { query: { limit: 100, cursor } });
      items.push(...page.items);
      cursor = page.next_cursor ?? undefined;
    } while (cursor !== undefined);
    return items;
  }
}

export type Agents = Catalogue<Agent>;
export type Tools = Catalogue<Tool>;

export class Approvals {
  constructor(private readonly http: Http) {}

  /** Answered ones too; `state` tells which wait for an answer. */
  list(listing: Listing = {}): Promise<Page<Approval>> {
    return this.http.json('GET', '/api/approvals', { query: { ...listing } });
  }

  /** `arguments` takes the place of what the agent wanted to call the tool with. */
  async resolve(id: string, answer: { decision: 'approve' | 'deny'; note?: string; arguments?: unknown }): Promise<void> {
    await this.http.call('POST', `/api/approvals/${id}`, { body: answer });
  }
}
