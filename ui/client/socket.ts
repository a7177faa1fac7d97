// The user's socket: connects with a ticket, subscribes, resumes after a break, and finds gaps.

import { backoffMs } from './backoff';
import { Cursor } from './cursor';
import type { AnyEvent, AsOf, ErrorBody } from './types';

export type Connection =
  | { state: 'connecting' }
  | { state: 'live'; replayed: number; again: boolean }
  | { state: 'waiting'; retryInMs: number; closeCode: number }
  | { state: 'stopped' };

export interface Wire {
  send(text: string): void;
  close(code?: number): void;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number }) => void) | null;
}

export interface Hooks {
  ticket(): Promise<string>;
  open(ticket: string): Wire;
  event(event: AnyEvent): void;
  connection(connection: Connection): void;
  /** The log can no longer be resumed here: read the state anew, then call `subscribe` with its `as_of`. */
  expired(): void;
  /** The server closed because the access token has expired; false when there is no way to get another one. */
  renew(): Promise<boolean>;
  /** Time is given so that tests need not wait. */
  later?(ms: number, act: () => void): () => void;
  random?(): number;
}

/** Silence after which the client asks whether anyone is there, and how long it waits for the answer. */
const SILENCE_MS = 35_000;
const ANSWER_MS = 10_000;
const DELIVERED_EVERY_MS = 2_000;
const TOKEN_EXPIRED = 4001;
const RATE_LIMITED = 4003;
const TOO_MANY_SOCKETS = 4009;

interface Frame {
  type: string;
  id?: string | null;
  seq?: number;
  epoch?: string;
  after?: number;
  latest_seq?: number;
  error?: ErrorBody;
}

export class EventSocket {
  private wire: Wire | undefined;
  private cursor = new Cursor();
  private attempt = 0;
  private frame = 0;
  private subscription: string | undefined;
  private wanted = false;
  private running = false;
  private everLive = false;
  private replay: { until: number; count: number } | undefined;
  private confirmed = 0;
  private cancels = new Map<'retry' | 'silence' | 'delivered', () => void>();

  constructor(private readonly hooks: Hooks) {}

  start(): void {
    if (this.running) return;
    this.running = true;
    void this.connect();
  }

  stop(): void {
    this.running = false;
    this.wanted = false;
    this.everLive = false;
    this.cursor = new Cursor();
    for (const name of [...this.cancels.keys()]) this.cancel(name);
    this.drop(1000);
    this.hooks.connection({ state: 'stopped' });
  }

  /** Events after this place, of all threads. Without a place: from now on. */
  subscribe(after?: AsOf): void {
    this.cursor = new Cursor(after);
    this.wanted = true;
    if (this.wire) this.sendSubscribe();
  }

  /** How far the socket has got, for who wants to know whether a snapshot is newer. */
  get place(): AsOf | undefined {
    const { epoch, seq } = this.cursor;
    return epoch !== undefined && seq !== undefined ? { epoch, seq } : undefined;
  }

  /** The session has a new access token: the socket goes on with it instead of being closed. */
  token(token: string): void {
    this.write({ type: 'auth.refresh', token });
  }

  /** Tries at once, for instance because the browser is online again. */
  nudge(): void {
    if (!this.running || this.wire) return;
    this.attempt = 0;
    void this.connect();
  }

  private async connect(): Promise<void> {
    this.cancel('retry');
    this.hooks.connection({ state: 'connecting' });
    try {
      const ticket = await this.hooks.ticket();
      if (!this.running || this.wire) return;
      const wire = this.hooks.open(ticket);
      this.wire = wire;
      wire.onmessage = (message) => {
        if (this.wire === wire) this.receive(String(message.data));
      };
      wire.onclose = ({ code }) => {
        if (this.wire === wire) void this.closed(code);
      };
    } catch {
      if (this.running) this.retry(0);
    }
  }

  private async closed(code: number): Promise<void> {
    this.drop();
    if (!this.running) return;
    if (code === TOKEN_EXPIRED && !(await this.hooks.renew())) return;
    if (this.running) this.retry(code);
  }

  private retry(code: number): void {
    if (code === RATE_LIMITED || code === TOO_MANY_SOCKETS) this.attempt = Math.max(this.attempt, 5);
    const retryInMs = backoffMs(this.attempt, (this.hooks.random ?? Math.random)());
    this.attempt += 1;
    this.hooks.connection({ state: 'waiting', retryInMs, closeCode: code });
    this.after('retry', retryInMs, () => void this.connect());
  }

  private receive(text: string): void {
    this.listen();
    const frame = read(text);
    if (!frame) return;
    if (frame.type === 'connection_ready') {
      if (this.wanted) this.sendSubscribe();
    } else if (frame.type === 'ack' || frame.type === 'error') {
      if (frame.id != null && frame.id === this.subscription) this.answered(frame);
    } else if (frame.type === 'position') {
      if (this.subscription !== undefined) return;
      this.cursor.move(frame.seq ?? 0);
      this.progress();
    } else if (typeof frame.seq === 'number') {
      this.take(frame as unknown as AnyEvent);
    }
  }

  private take(event: AnyEvent): void {
    // Until the new subscription is answered, what comes belongs to the old one.
    if (this.subscription !== undefined) return;
    const step = this.cursor.take(event.seq, event.prev);
    if (step === 'gap') {
      this.sendSubscribe();
    } else if (step === 'next') {
      if (this.replay) this.replay.count += 1;
      this.hooks.event(event);
      this.progress();
    }
  }

  private answered(frame: Frame): void {
    this.subscription = undefined;
    if (frame.type === 'error') {
      if (frame.error?.code === 'cursor_expired') {
        this.wanted = false;
        this.cursor = new Cursor();
        this.hooks.expired();
      } else {
        this.wire?.close(1000);
      }
      return;
    }
    this.cursor.resolve(frame.epoch ?? '', frame.after ?? 0);
    this.replay = { until: frame.latest_seq ?? 0, count: 0 };
    this.progress();
  }

  /** Tells that the replay has caught up, once. */
  private progress(): void {
    this.confirm();
    if (!this.replay || (this.cursor.seq ?? 0) < this.replay.until) return;
    const { count } = this.replay;
    this.replay = undefined;
    this.attempt = 0;
    this.hooks.connection({ state: 'live', replayed: count, again: this.everLive });
    this.everLive = true;
  }

  private sendSubscribe(): void {
    const after = this.cursor.seq ?? 'now';
    const epoch = this.cursor.seq === undefined ? undefined : this.cursor.epoch;
    this.replay = undefined;
    this.subscription = this.write({ type: 'subscribe', after, ...(epoch ? { epoch } : {}) });
  }

  private write(frame: Record<string, unknown>): string | undefined {
    if (!this.wire) return undefined;
    this.frame += 1;
    const id = `c${this.frame}`;
    try {
      this.wire.send(JSON.stringify({ ...frame, id }));
      return id;
    } catch {
      // Not open any more; its close event follows and connects anew.
      return undefined;
    }
  }

  /** Browsers answer the server's pings unseen, so a dead line is found by asking after some silence. */
  private listen(): void {
    this.after('silence', SILENCE_MS, () => {
      this.write({ type: 'ping' });
      this.after('silence', ANSWER_MS, () => {
        const wire = this.wire;
        wire?.close(1000);
        // A dead line may never report its close.
        if (wire && this.wire === wire) void this.closed(1006);
      });
    });
  }

  private confirm(): void {
    const seq = this.cursor.seq ?? 0;
    if (seq <= this.confirmed || this.cancels.has('delivered')) return;
    this.after('delivered', DELIVERED_EVERY_MS, () => {
      this.confirmed = this.cursor.seq ?? 0;
      try {
        this.wire?.send(JSON.stringify({ type: 'delivered', seq: this.confirmed }));
      } catch {
        // For the server's metrics only.
      }
    });
  }

  private drop(code?: number): void {
    const wire = this.wire;
    this.wire = undefined;
    this.subscription = undefined;
    this.replay = undefined;
    this.confirmed = 0;
    this.cancel('silence');
    this.cancel('delivered');
    if (wire && code !== undefined) wire.close(code);
  }

  private after(name: 'retry' | 'silence' | 'delivered', ms: number, act: () => void): void {
    this.cancel(name);
    const later = this.hooks.later ?? browserLater;
    const cancel = later(ms, () => {
      this.cancels.delete(name);
      act();
    });
    this.cancels.set(name, cancel);
  }

  private cancel(name: 'retry' | 'silence' | 'delivered'): void {
    this.cancels.get(name)?.();
    this.cancels.delete(name);
  }
}

function browserLater(ms: number, act: () => void): () => void {
  const timer = setTimeout(act, ms);
  return () => clearTimeout(timer);
}

function read(text: string): Frame | undefined {
  try {
    const frame = JSON.parse(text) as Frame;
    return typeof frame.type === 'string' ? frame : undefined;
  } catch {
    return undefined;
  }
}

/** The socket of the page's own server. */
export function openWire(ticket: string): Wire {
  const url = new URL('/ws', location.href);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  url.searchParams.set('ticket', ticket);
  return new WebSocket(url) as unknown as Wire;
}
