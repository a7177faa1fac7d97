// Requests: the bearer header, a new token when the old one is refused, idempotency keys, and repeats of what may be repeated.

import { backoffMs } from './backoff.js';
import { pause, realClock, type Clock } from './clock.js';
import { ApiError, CursorExpired, isPassing } from './errors.js';
import type { ErrorBody } from './types.js';

/** Who holds the access token: it is asked before each request and told when the server refused the token. */
export interface Credentials {
  token(): string | undefined;
  /** Gets a new token; false when the user has to sign in again. */
  renew(): Promise<boolean>;
  /** How long the token is still good, when that is known. A live socket is given the next one before that. */
  expiresInMs?(): number | undefined;
}

export interface Request {
  query?: Record<string, string | number | boolean | undefined> | undefined;
  body?: unknown;
  /** A raw body, in place of JSON. */
  raw?: Blob;
  /** Names this request, so that a repeat is the same request. */
  key?: string | undefined;
  headers?: Record<string, string>;
  signal?: AbortSignal | undefined;
}

export interface HttpOptions {
  /** The server's address. */
  url: string;
  credentials?: Credentials | undefined;
  fetch?: typeof fetch | undefined;
  /** How often a request that may be repeated is tried. */
  attempts?: number | undefined;
  clock?: Clock | undefined;
}

/** How long an answer may take, to the end of its body. */
export const ANSWER_MS = 30_000;
/** A line that carries fewer bytes in a millisecond is as good as dead. */
const SLOWEST = 16;

/** A random key for `Idempotency-Key`. `randomUUID` exists on secure origins only, a server in the local network may be plain HTTP. */
export function randomKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

export class Http {
  readonly clock: Clock;
  private readonly fetch: typeof fetch;
  private renewing: Promise<boolean> | undefined;

  constructor(private readonly options: HttpOptions) {
    this.clock = options.clock ?? realClock;
    // Called as a plain function, as browsers refuse `fetch` on any other object.
    this.fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
  }

  address(path: string, query: Request['query'] = {}): URL {
    const url = new URL(path, this.options.url);
    for (const [key, value] of Object.entries(query)) {
      if (value !== undefined) url.searchParams.set(key, String(value));
    }
    return url;
  }

  get token(): string | undefined {
    return this.options.credentials?.token();
  }

  get tokenExpiresInMs(): number | undefined {
    return this.options.credentials?.expiresInMs?.();
  }

  /** The token, which a source that has not been asked yet is asked for. */
  async needed(): Promise<string | undefined> {
    if (this.token === undefined && this.options.credentials) await this.renew();
    return this.token;
  }

  /** One renewal at a time, whoever asks: a refresh token that is used twice ends the session. All wait for it, so not for ever. */
  renew(): Promise<boolean> {
    const { credentials } = this.options;
    this.renewing ??= this.within(ANSWER_MS, undefined, async () => credentials?.renew() ?? false).finally(() => {
      this.renewing = undefined;
    });
    return this.renewing;
  }

  /** An answer that breaks off in the middle is a lost one, so its reading is a part of the attempt. */
  json<T>(method: string, path: string, request: Request = {}): Promise<T> {
    const limit = ANSWER_MS + (request.raw?.size ?? 0) / SLOWEST;
    const ask = async (signal: AbortSignal): Promise<T> => {
      const text = await (await this.once(method, path, { ...request, signal })).text();
      return (text === '' ? undefined : JSON.parse(text)) as T;
    };
    return this.repeated(method, request, () => this.within(limit, request.signal, ask));
  }

  /** What is not JSON, however long it is. */
  blob(path: string): Promise<Blob> {
    const request = { headers: { Accept: '*/*' } };
    return this.repeated('GET', request, async () => (await this.once('GET', path, request)).blob());
  }

  async call(method: string, path: string, request: Request = {}): Promise<void> {
    const ask = async (signal: AbortSignal): Promise<void> => {
      await (await this.once(method, path, { ...request, signal })).body?.cancel();
    };
    await this.repeated(method, request, () => this.within(ANSWER_MS, request.signal, ask));
  }

  /** An answer that does not come is a lost one: `fetch` calls a broken line a TypeError. */
  async within<T>(ms: number, outer: AbortSignal | undefined, ask: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const control = new AbortController();
    const abort = (): void => control.abort(outer?.reason);
    let cancel: () => void = () => undefined;
    const late = new Promise<never>((_, reject) => {
      cancel = this.clock.later(ms, () => {
        const error = new TypeError(`There was no answer in ${ms / 1000} s.`);
        reject(error);
        control.abort(error);
      });
    });
    outer?.addEventListener('abort', abort);
    if (outer?.aborted) abort();
    try {
      return await Promise.race([ask(control.signal), late]);
    } finally {
      cancel();
      outer?.removeEventListener('abort', abort);
    }
  }

  /** What is read only, and what has a key, is tried again when the server is away; the rest is the caller's to judge. */
  private async repeated<T>(method: string, request: Request, ask: () => Promise<T>): Promise<T> {
    const attempts = method === 'GET' || request.key !== undefined ? (this.options.attempts ?? 1) : 1;
    for (let attempt = 0; ; attempt++) {
      try {
        return await ask();
      } catch (error) {
        const quota = error instanceof ApiError && error.status === 429 && error.code !== 'rate_limited';
        if (attempt + 1 >= attempts || quota || !isPassing(error) || request.signal?.aborted) throw error;
        await pause(this.clock, backoffMs(attempt, this.clock.random(), retryAfterOf(error)), request.signal);
      }
    }
  }

  /** Without repeats, but for the second try with a new token. */
  async once(method: string, path: string, request: Request = {}): Promise<Response> {
    const token = await this.needed();
    try {
      return await this.send(method, path, request, token);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 401 || token === undefined) throw error;
      // Someone else may have renewed it meanwhile.
      if (this.token === token && !(await this.renew())) throw error;
      return this.send(method, path, request, this.token);
    }
  }

  private async send(method: string, path: string, request: Request, token: string | undefined): Promise<Response> {
    const headers: Record<string, string> = { Accept: 'application/json', ...request.headers };
    if (token !== undefined) headers['Authorization'] = `Bearer ${token}`;
    if (request.body !== undefined) headers['Content-Type'] = 'application/json';
    if (request.key !== undefined) headers['Idempotency-Key'] = request.key;
    const response = await this.fetch(this.address(path, request.query), {
      method,
      headers,
      body: request.raw ?? (request.body === undefined ? null : JSON.stringify(request.body)),
      credentials: 'same-origin',
      signal: request.signal ?? null,
    });
    if (!response.ok) throw failure(response.status, await response.text(), response.headers.get('Retry-After'));
    return response;
  }
}

/** The error that an answer tells of. */
export function failure(status: number, text: string, retryAfter: string | null): ApiError | CursorExpired {
  const retryAfterMs = retryAfter && /^\d+$/.test(retryAfter) ? Number(retryAfter) * 1000 : undefined;
  try {
    const { error } = JSON.parse(text) as Partial<ErrorBody>;
    if (error?.code === 'cursor_expired') return new CursorExpired(error);
    if (error) return new ApiError(status, error, retryAfterMs);
  } catch {
    // Not one of the server's own answers (a proxy's page, for instance): the status is all there is.
  }
  return new ApiError(status, { code: `http_${status}`, message: '' }, retryAfterMs);
}

export function retryAfterOf(error: unknown): number {
  return error instanceof ApiError ? (error.retryAfterMs ?? 0) : 0;
}
