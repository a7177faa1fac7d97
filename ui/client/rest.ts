// The REST interface: one method per operation, errors as `ApiError`, a new access token when the old one has expired.

import type {
  Agent,
  AnyEvent,
  ErrorBody,
  FileInfo,
  Login,
  Message,
  Page,
  Run,
  StartRun,
  Thread,
} from './types';
import { readEvents } from './sse';

export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  readonly requestId: string | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(status: number, body: ErrorBody, retryAfterMs?: number) {
    super(body.message);
    this.name = 'ApiError';
    this.status = status;
    this.code = body.code;
    this.requestId = body.request_id;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Who holds the access token: it is asked before each request and told when the server refused the token. */
export interface Credentials {
  token(): string | undefined;
  /** Gets a new token; false when the user has to sign in again. */
  renew(): Promise<boolean>;
}

interface Options {
  query?: Record<string, string | number | boolean | undefined> | undefined;
  body?: unknown;
  idempotent?: boolean;
  signal?: AbortSignal | undefined;
  headers?: Record<string, string>;
}

/** A random key for `Idempotency-Key`. `randomUUID` exists on secure origins only, a server in the local network may be plain HTTP. */
export function randomKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function address(path: string, query: Options['query']): string {
  const pairs = Object.entries(query ?? {}).filter(([, value]) => value !== undefined);
  if (pairs.length === 0) return path;
  return `${path}?${new URLSearchParams(pairs.map(([key, value]) => [key, String(value)])).toString()}`;
}

function failure(status: number, text: string, retryAfter: string | null): ApiError {
  const retryAfterMs = retryAfter && /^\d+$/.test(retryAfter) ? Number(retryAfter) * 1000 : undefined;
  try {
    const body = JSON.parse(text) as { error?: ErrorBody };
    if (body.error) return new ApiError(status, body.error, retryAfterMs);
  } catch {
    // Not one of the server's own answers (a proxy's page, for instance): the status is all there is.
  }
  return new ApiError(status, { code: `http_${status}`, message: '' }, retryAfterMs);
}

async function send(method: string, path: string, options: Options, token?: string): Promise<Response> {
  const headers: Record<string, string> = { Accept: 'application/json', ...options.headers };
  if (token) headers['Authorization'] = `Bearer ${token}`;
  if (options.body !== undefined) headers['Content-Type'] = 'application/json';
  if (options.idempotent) headers['Idempotency-Key'] ??= randomKey();
  const response = await fetch(address(path, options.query), {
    method,
    headers,
    body: options.body === undefined ? null : JSON.stringify(options.body),
    credentials: 'same-origin',
    signal: options.signal ?? null,
  });
  if (!response.ok) throw failure(response.status, await response.text(), response.headers.get('Retry-After'));
  return response;
}

async function parsed<T>(response: Response): Promise<T> {
  const text = await response.text();
  return (text === '' ? undefined : JSON.parse(text)) as T;
}

/** The operations that need no access token. */
export const auth = {
  async setup(token: string, name: string, password: string): Promise<Partial<Login>> {
    return parsed(await send('POST', '/api/auth/setup', { body: { token, name, password } }));
  },
  async login(name: string, password: string): Promise<Login> {
    return parsed(await send('POST', '/api/auth/login', { body: { name, password } }));
  },
  /** Uses the HttpOnly cookie, or on a `--dev` server the loopback address. */
  async refresh(): Promise<Login> {
    return parsed(await send('POST', '/api/auth/refresh', { body: {} }));
  },
};

export class Api {
  constructor(private readonly credentials: Credentials) {}

  private async call(method: string, path: string, options: Options = {}): Promise<Response> {
    // The key is made once, so the second try of the same request is the same request.
    const once = options.idempotent
      ? { ...options, headers: { ...options.headers, 'Idempotency-Key': randomKey() } }
      : options;
    try {
      return await send(method, path, once, this.credentials.token());
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 401) throw error;
      if (!(await this.credentials.renew())) throw error;
      return send(method, path, once, this.credentials.token());
    }
  }

  private async json<T>(method: string, path: string, options: Options = {}): Promise<T> {
    return parsed<T>(await this.call(method, path, options));
  }

  logout(): Promise<void> {
    return this.json('POST', '/api/auth/logout', { body: {} });
  }

  ticket(): Promise<{ ticket: string; expires_in_ms: number }> {
    return this.json('POST', '/api/auth/ws-ticket', { body: {} });
  }

  agents(): Promise<Agent[]> {
    return this.all('/api/agents');
  }

  threads(query: { cursor?: string; limit?: number; q?: string } = {}): Promise<Page<Thread>> {
    return this.json('GET', '/api/threads', { query });
  }

  thread(id: string): Promise<Thread> {
    return this.json('GET', `/api/threads/${id}`);
  }

  renameThread(id: string, title: string): Promise<Thread> {
    return this.json('PATCH', `/api/threads/${id}`, { body: { title } });
  }

  deleteThread(id: string): Promise<void> {
    return this.json('DELETE', `/api/threads/${id}`);
  }

  messages(threadId: string, cursor?: string): Promise<Page<Message>> {
    return this.json('GET', `/api/threads/${threadId}/messages`, { query: { limit: 100, cursor } });
  }

  /** Starts a run in a thread, or in a new one when there is none yet. */
  startRun(start: StartRun, threadId?: string): Promise<Run> {
    const path = threadId ? `/api/threads/${threadId}/runs` : '/api/runs';
    return this.json('POST', path, { body: start, idempotent: true });
  }

  runs(limit = 100): Promise<Page<Run>> {
    return this.json('GET', '/api/runs', { query: { limit } });
  }

  run(id: string): Promise<Run> {
    return this.json('GET', `/api/runs/${id}`);
  }

  async cancelRun(id: string): Promise<void> {
    await this.call('POST', `/api/runs/${id}/cancel`);
  }

  retryRun(id: string): Promise<Run> {
    return this.json('POST', `/api/runs/${id}/retry`, { idempotent: true });
  }

  async resolveApproval(id: string, decision: 'approve' | 'deny'): Promise<void> {
    await this.call('POST', `/api/approvals/${id}`, { body: { decision } });
  }

  file(id: string): Promise<FileInfo> {
    return this.json('GET', `/api/files/${id}`);
  }

  async fileContent(id: string): Promise<Blob> {
    return (await this.call('GET', `/api/files/${id}/content`, { headers: { Accept: '*/*' } })).blob();
  }

  /** The events of one run from its start; ends after the terminal event, or when `signal` fires. */
  async *runEvents(id: string, signal: AbortSignal): AsyncGenerator<AnyEvent> {
    const response = await this.call('GET', `/api/runs/${id}/events`, {
      query: { deltas: true },
      headers: { Accept: 'text/event-stream' },
      signal,
    });
    if (response.status === 204 || !response.body) return;
    yield* readEvents(response.body);
  }

  /** Uploads a file as the raw body. XMLHttpRequest, because `fetch` does not tell the progress of an upload. */
  async upload(file: File, progress: (fraction: number) => void, signal: AbortSignal): Promise<FileInfo> {
    const key = randomKey();
    try {
      return await this.uploadOnce(file, key, progress, signal);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 401 || !(await this.credentials.renew())) throw error;
      return this.uploadOnce(file, key, progress, signal);
    }
  }

  private uploadOnce(file: File, key: string, progress: (fraction: number) => void, signal: AbortSignal): Promise<FileInfo> {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open('POST', address('/api/files', { name: file.name }));
      request.setRequestHeader('Authorization', `Bearer ${this.credentials.token() ?? ''}`);
      request.setRequestHeader('Content-Type', file.type || 'application/octet-stream');
      request.setRequestHeader('Idempotency-Key', key);
      request.upload.onprogress = (event) => {
        if (event.lengthComputable && event.total > 0) progress(event.loaded / event.total);
      };
      request.onload = () => {
        if (request.status >= 200 && request.status < 300) resolve(JSON.parse(request.responseText) as FileInfo);
        else reject(failure(request.status, request.responseText, request.getResponseHeader('Retry-After')));
      };
      request.onerror = () => reject(new TypeError('network'));
      request.onabort = () => reject(new DOMException('aborted', 'AbortError'));
      signal.addEventListener('abort', () => request.abort(), { once: true });
      request.send(file);
    });
  }

  /** All pages of a list whose size is small by nature. */
  private async all<T>(path: string): Promise<T[]> {
    const items: T[] = [];
    let cursor: string | undefined;
    do {
      const page: Page<T> = await this.json('GET', path, { query: { limit: 100, cursor } });
      items.push(...page.items);
      cursor = page.next_cursor ?? undefined;
    } while (cursor);
    return items;
  }
}
