// Requests against a played `fetch`: tokens that end, servers that are away, and keys that stay the same.

import { describe, expect, it } from 'vitest';
import { ApiError } from './errors.js';
import { Netra, type NetraOptions } from './netra.js';
import { PlayedClock, PlayedWire, settle } from './played.fixture.js';
import { TokenPair } from './tokens.js';
import type { Tokens, User } from './types.js';

type Answer = { status: number; body?: unknown; headers?: Record<string, string>; cut?: boolean } | Error | 'none';

interface Asked {
  path: string;
  method: string | undefined;
  headers: Record<string, string>;
  body: unknown;
}

/** A body that breaks off in the middle. */
function cut(): ReadableStream<Uint8Array> {
  let begun = false;
  return new ReadableStream({
    pull(control) {
      if (begun) control.error(new TypeError('terminated'));
      else control.enqueue(new TextEncoder().encode('{"id":'));
      begun = true;
    },
  });
}

function answering(answers: Answer[]) {
  const asked: Asked[] = [];
  const fetch = async (input: string | URL | Request, init: RequestInit = {}): Promise<Response> => {
    const { pathname, search } = new URL(String(input));
    const body = typeof init.body === 'string' ? (JSON.parse(init.body) as unknown) : init.body;
    asked.push({ path: pathname + search, method: init.method, headers: init.headers as Record<string, string>, body });
    const answer = answers.shift();
    if (!answer) throw new Error(`nothing is played for ${pathname}`);
    if (answer instanceof Error) throw answer;
    if (answer === 'none') return new Promise(() => undefined);
    return new Response(answer.cut ? cut() : JSON.stringify(answer.body ?? {}), { status: answer.status, headers: answer.headers ?? {} });
  };
  return { asked, fetch: fetch as typeof globalThis.fetch };
}

function played(answers: Answer[], options: Partial<NetraOptions> = {}) {
  const { asked, fetch } = answering(answers);
  const clock = new PlayedClock(() => 0.5);
  const netra = new Netra({ url: 'http://netra.test', token: 'old', fetch, clock, ...options });
  return { netra, asked, clock };
}

const refused = (status: number, code: string, headers?: Record<string, string>): Answer => ({
  status,
  body: { error: { code, message: 'no', request_id: 'req_1', docs: '' } },
  ...(headers ? { headers } : {}),
});

describe('tokens', () => {
  it('asks its source at first, and again when the token has ended', async () => {
    const tokens = ['one', 'two'];
    const { netra, asked } = played([refused(401, 'token_expired'), { status: 200, body: { name: 'ada' } }], {
      token: () => Promise.resolve(tokens.shift() as string),
    });
    expect(await netra.me()).toEqual({ name: 'ada' });
    expect(asked.map(({ headers }) => headers['Authorization'])).toEqual(['Bearer one', 'Bearer two']);
  });

  it('renews once for all that were refused together', async () => {
    let renewals = 0;
    const credentials = {
      token: () => `token ${renewals}`,
      renew: async () => {
        await settle();
        renewals += 1;
        return true;
      },
    };
    const good = { status: 200 };
    const { netra } = played([refused(401, 'token_expired'), refused(401, 'token_expired'), good, good], { token: undefined, credentials });
    await Promise.all([netra.me(), netra.usage()]);
    expect(renewals).toBe(1);
  });

  it('rotates a pair, tells of the new one, and gives up only what is refused', async () => {
    const pair = (n: number) => ({ access_token: `a${n}`, refresh_token: `r${n}`, expires_in_ms: 900_000, user: {} as User });
    const kept: Tokens[] = [];
    const { fetch, asked } = answering([{ status: 200, body: pair(2) }, new TypeError('fetch failed'), refused(401, 'unauthenticated')]);
    const tokens = new TokenPair({ url: 'http://netra.test', fetch }, pair(1), (tokens) => kept.push(tokens));
    expect(await tokens.renew()).toBe(true);
    expect([tokens.token(), kept]).toEqual(['a2', [pair(2)]]);
    await expect(tokens.renew()).rejects.toBeInstanceOf(TypeError);
    expect(await tokens.renew()).toBe(false);
    expect(asked.map(({ body }) => body)).toEqual(['r1', 'r2', 'r2'].map((refresh_token) => ({ refresh_token })));
  });

  it('does not wait for ever for a source that hangs', async () => {
    const answers = [new Promise<string>(() => undefined), Promise.resolve('late')];
    const { netra, asked, clock } = played([{ status: 200, body: { name: 'ada' } }], { token: () => answers.shift() as Promise<string> });
    const me = netra.me();
    await clock.pass(30_250);
    expect(await me).toEqual({ name: 'ada' });
    expect(asked.map(({ headers }) => headers['Authorization'])).toEqual(['Bearer late']);
  });

  it('tells of a refusal when there is no other token', async () => {
    const { netra } = played([refused(401, 'unauthenticated')]);
    await expect(netra.me()).rejects.toMatchObject({ status: 401, code: 'unauthenticated', requestId: 'req_1' });
  });
});

describe('starting a run', () => {
  it('repeats with the same key when the answer is lost or the server is away', async () => {
    const { netra, asked, clock } = played([
      new TypeError('fetch failed'),
      refused(503, 'draining', { 'Retry-After': '5' }),
      { status: 202, body: { id: 'run_1' } },
    ]);
    const started = netra.runs.start({ agent: 'echo', input: 'hi', thread_id: 'thr_1' });
    await clock.pass(250 + 5_499);
    expect(asked).toHaveLength(2);
    await clock.pass(1);
    expect(await started).toEqual({ id: 'run_1' });
    expect(asked[0]).toMatchObject({ path: '/api/threads/thr_1/runs', method: 'POST', body: { agent: 'echo', input: 'hi' } });
    expect(new Set(asked.map(({ headers }) => headers['Idempotency-Key'])).size).toBe(1);
  });

  it('repeats with the same key when the answer breaks off in the middle', async () => {
    const { netra, asked, clock } = played([{ status: 202, cut: true }, { status: 202, body: { id: 'run_1' } }]);
    const started = netra.runs.start({ agent: 'echo', input: 'hi' });
    started.catch(() => undefined);
    // A body is read in turns of the real event loop, of which it does not say how many.
    for (let turn = 0; turn < 20; turn++) {
      await new Promise((resolve) => setImmediate(resolve));
      await clock.pass(250);
    }
    expect(await started).toEqual({ id: 'run_1' });
    expect(new Set(asked.map(({ headers }) => headers['Idempotency-Key'])).size).toBe(1);
    expect(asked).toHaveLength(2);
  });

  it('repeats with the same key when no answer comes', async () => {
    const { netra, asked, clock } = played(['none', { status: 202, body: { id: 'run_1' } }]);
    const started = netra.runs.start({ agent: 'echo', input: 'hi' });
    await clock.pass(30_000);
    expect(asked).toHaveLength(1);
    await clock.pass(250);
    expect(await started).toEqual({ id: 'run_1' });
    expect(new Set(asked.map(({ headers }) => headers['Idempotency-Key'])).size).toBe(1);
  });

  it('leaves it to the caller what to do about a quota', async () => {
    const { netra, asked } = played([refused(429, 'queue_full', { 'Retry-After': '5' })]);
    const started = netra.runs.start({ agent: 'echo', input: 'hi' }, { idempotencyKey: 'mine' });
    await expect(started).rejects.toMatchObject({ code: 'queue_full', retryAfterMs: 5_000 });
    expect(asked[0]?.headers['Idempotency-Key']).toBe('mine');
  });

  it('gives up after some attempts', async () => {
    const { netra, asked, clock } = played(Array.from({ length: 4 }, () => new TypeError('fetch failed')));
    const started = netra.runs.start({ agent: 'echo', input: 'hi' });
    started.catch(() => undefined);
    await clock.pass(60_000);
    await expect(started).rejects.toBeInstanceOf(TypeError);
    expect(asked).toHaveLength(4);
  });
});

it('does not repeat what has no key', async () => {
  const { netra, asked } = played([new TypeError('fetch failed')]);
  await expect(netra.runs.cancel('run_1')).rejects.toBeInstanceOf(TypeError);
  expect(asked).toHaveLength(1);
});

it('reads a file again when its content breaks off in the middle', async () => {
  const { netra, asked, clock } = played([{ status: 200, cut: true }, { status: 200, body: 'whole' }]);
  const content = netra.files.content('fil_1');
  content.catch(() => undefined);
  for (let turn = 0; turn < 20; turn++) {
    await new Promise((resolve) => setImmediate(resolve));
    await clock.pass(250);
  }
  expect(await (await content).text()).toBe('"whole"');
  expect(asked).toHaveLength(2);
});

describe('waiting for a run', () => {
  const running = { status: 202, body: { id: 'run_1', status: 'running' } };

  it('asks until it has ended, through a restart of the server', async () => {
    const ended = { status: 200, body: { id: 'run_1', status: 'failed' } };
    const { netra, asked, clock } = played([running, new TypeError('fetch failed'), refused(503, 'draining'), ended]);
    const waited = netra.runs.wait('run_1');
    await clock.pass(60_000);
    expect(await waited).toEqual({ id: 'run_1', status: 'failed' });
    expect(asked[3]?.path).toBe('/api/runs/run_1/wait?timeout_ms=60000');
  });

  it('asks again when the server holds the question for longer than it was asked to', async () => {
    const { netra, asked, clock } = played(['none', { status: 200, body: { id: 'run_1', status: 'completed' } }]);
    const waited = netra.runs.wait('run_1');
    await clock.pass(89_999);
    expect(asked).toHaveLength(1);
    await clock.pass(251);
    expect(await waited).toMatchObject({ status: 'completed' });
  });

  it('fails for a run that is not there, and when the signal fires', async () => {
    const missing = played([refused(404, 'not_found')]);
    await expect(missing.netra.runs.wait('run_2')).rejects.toBeInstanceOf(ApiError);
    const { netra, clock } = played([running]);
    const control = new AbortController();
    const waited = netra.runs.wait('run_1', { signal: control.signal });
    waited.catch(() => undefined);
    await clock.pass(0);
    control.abort();
    await expect(waited).rejects.toMatchObject({ name: 'AbortError' });
  });
});

describe('opening a socket', () => {
  class Opened extends PlayedWire {
    static all: { url: URL; protocols: string[] | undefined; wire: Opened }[] = [];
    constructor(url: string | URL, protocols?: string[]) {
      super();
      Opened.all.push({ url: new URL(url), protocols, wire: this });
    }
  }

  it('sends the token as a subprotocol, and asks for a ticket when that was refused, which says why', async () => {
    Opened.all = [];
    const ticket = { status: 200, body: { ticket: 'tkt' } };
    const { netra, asked, clock } = played([refused(503, 'overloaded', { 'Retry-After': '3' }), ticket], {
      WebSocket: Opened,
      opening: 'bearer',
    });
    const stream = netra.events();
    await settle();
    expect(Opened.all[0]).toMatchObject({ url: { href: 'ws://netra.test/ws' }, protocols: ['netra.v1', 'bearer.old'] });
    Opened.all[0]?.wire.onclose?.({ code: 1006 });
    await clock.pass(250);
    expect(asked).toMatchObject([{ path: '/api/auth/ws-ticket', method: 'POST' }]);
    await clock.pass(60_000);
    expect(Opened.all[1]?.url.href).toBe('ws://netra.test/ws');
    stream.close();
  });

  it('asks for a ticket in a browser, and keeps the token out of the address', async () => {
    Opened.all = [];
    const { netra } = played([{ status: 200, body: { ticket: 'tkt' } }], { WebSocket: Opened });
    const stream = netra.events();
    await settle();
    expect(Opened.all[0]).toMatchObject({ url: { href: 'ws://netra.test/ws?ticket=tkt' }, protocols: undefined });
    stream.close();
  });

  it('says what is missing where there is no WebSocket', async () => {
    const { WebSocket } = globalThis;
    Reflect.deleteProperty(globalThis, 'WebSocket');
    try {
      const { netra } = played([], { opening: 'bearer' });
      await expect(netra.events().next()).rejects.toThrow('npm package `ws`');
    } finally {
      Object.assign(globalThis, { WebSocket });
    }
  });
});
