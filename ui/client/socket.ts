// The user's socket: connects, subscribes, resumes after a break, finds gaps, and repeats what was not answered.

import { backoffMs } from './backoff.js';
import { realClock, type Clock } from './clock.js';
import { Cursor, type Place } from './cursor.js';
import { CursorExpired, isPassing, NetraError } from './errors.js';
import { randomKey, retryAfterOf } from './http.js';
import type { WireEvent, AsOf, ClientFrame, ErrorDetail, RunStart } from './types.js';

export type Connection =
  | { state: 'connecting' }
  | { state: 'live'; replayed: number; again: boolean }
  /**
   * `reason` is the error code of a refusal: `overloaded` when the node is full, for instance. What the server has said of itself
   * stands until there is a line again: that nobody answers meanwhile says nothing new.
   */
  | { state: 'waiting'; retryInMs: number; closeCode: number; reason?: string }
  | { state: 'stopped' };

/** What is used of a `WebSocket`. */
export interface Wire {
  send(text: string): void;
  close(code?: number): void;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number }) => void) | null;
  onerror?: unknown;
}

export interface Filter {
  /** Only events of these threads; all when absent. */
  threads?: string[] | undefined;
  /** Whether `message_delta` is wanted; true when absent. */
  deltas?: boolean | undefined;
}

export interface Hooks {
  /** Opens a socket. An error says why it cannot be opened; one that does not pass ends the attempts. */
  open(refused: boolean): Promise<Wire>;
  event(event: WireEvent): void;
  connection?(connection: Connection): void;
  /** The server has said from which place it sends. */
  subscribed?(place: AsOf): void;
  /** The log can no longer be resumed here: read the state anew, then call `subscribe` with its `as_of`. */
  expired(error: CursorExpired): void;
  /** Trying again would not help: signed out, for instance. A new token ends that, see `token`. */
  refused?(error: unknown): void;
  /** Gets a new access token: the old one has expired, or soon will. False when there is no way to get one. */
  renew(): Promise<boolean>;
  /** The access token, and how long it is good, where the socket is to see to its renewal. */
  current?(): { token: string | undefined; expiresInMs: number | undefined };
  clock?: Clock;
}

const CONNECT_MS = 20_000;
const ANSWER_MS = 10_000;
/** The longest frame that the server reads, in bytes. */
const LONGEST_FRAME = 64 * 1024;
/** How much longer than a heartbeat of the server silence may last before the client asks whether anyone is there. */
const GRACE_MS = 5_000;
const HEARTBEAT_MS = 30_000;
const DELIVERED_EVERY_MS = 2_000;
/** A new token is sent this long before the old one ends. */
const RENEW_AHEAD_MS = 60_000;
const RENEW_SOONEST_MS = 5_000;
/** The least wait, and the attempt to count from, after the server has asked for less. */
const SLOWER_MS = 5_000;
const SLOWER_ATTEMPT = 3;

const NO_CODE = 1006;
/** The server did not say why: there was no line at all, or one that ended without a word. */
const WORDLESS = new Set([0, 1005, NO_CODE]);
const TOO_BIG = 1009;
/** The server could make nothing of what it was sent. */
const BROKEN = new Set([1002, 1003, 1007, 1010]);
const TOKEN_EXPIRED = 4001;
const RATE_LIMITED = 4003;
const TOO_MANY_SOCKETS = 4009;
/** Refusals that do not last. */
const PASSING = new Set(['internal', 'store_unavailable', 'overloaded', 'draining', 'rate_limited']);

interface Frame {
  type: string;
  id?: string | null;
  seq?: number;
  epoch?: string;
  after?: number;
  latest_seq?: number;
  heartbeat_interval_ms?: number;
  error?: ErrorDetail;
}

/** What the server has answered to `run.start`. */
export type StartedRun = { run_id: string; thread_id: string };

interface Asked {
  frame: Outgoing<'run.start'>;
  resolve(ack: Frame): void;
  reject(error: unknown): void;
}

type Timer = 'retry' | 'silence' | 'delivered' | 'renew' | 'subscription';
/** `delivered` needs no id, as it is not answered. */
type Outgoing<T extends ClientFrame['type']> = Extract<ClientFrame, { type: T }> & { id?: string };

export class EventSocket {
  private readonly clock: Clock;
  private wire: Wire | undefined;
  private cursor = new Cursor();
  private filter: Filter = {};
  private attempt = 0;
  /** Numbers the attempts to connect, so that one that was given up does not come back. */
  private turn = 0;
  private frames = 0;
  private subscription: string | undefined;
  private wanted = false;
  private running = false;
  private ready = false;
  private everLive = false;
  private heartbeatMs = HEARTBEAT_MS;
  private replay: { until: number; count: number } | undefined;
  /** Why there is no line, in the server's own words. */
  private said: { closeCode: number; reason?: string } | undefined;
  /** Where the subscription was renewed last because of a gap. */
  private gap: number | undefined;
  private confirmed = 0;
  private readonly asked = new Map<string, Asked>();
  private readonly timers = new Map<Timer, () => void>();

  constructor(private readonly hooks: Hooks) {
    this.clock = hooks.clock ?? realClock;
  }

  start(): void {
    if (this.running) return;
    this.running = true;
    void this.connect(false);
  }

  stop(): void {
    this.wanted = false;
    this.everLive = false;
    this.said = undefined;
    this.cursor = new Cursor();
    this.pause();
    for (const { reject } of this.asked.values()) reject(new NetraError({ code: 'closed', message: 'The socket was closed.' }));
    this.asked.clear();
    this.tell({ state: 'stopped' });
  }

  /** Closes the line and keeps the place; `start` goes on from there. */
  pause(): void {
    this.running = false;
    for (const name of [...this.timers.keys()]) this.cancel(name);
    this.drop(1000);
  }

  /** Events after this place. Without a place: from now on. */
  subscribe(after?: Place, filter: Filter = {}): void {
    this.cursor = new Cursor(after);
    this.filter = filter;
    this.wanted = true;
    this.gap = undefined;
    if (this.ready) this.sendSubscribe();
  }

  /** How far the socket has got, for who wants to know whether a snapshot is newer. */
  get place(): AsOf | undefined {
    return this.cursor.place;
  }

  /** Whether something was asked that is not answered yet. */
  get busy(): boolean {
    return this.asked.size > 0;
  }

  /** There is a new access token: the socket goes on with it instead of being closed, or connects with it. */
  token(token: string): void {
    if (this.wire) this.send<'auth.refresh'>({ type: 'auth.refresh', id: this.nextId(), token });
    else this.nudge();
  }

  /** Tries at once, for instance because the browser is online again. */
  nudge(): void {
    if (!this.running || this.wire) return;
    this.attempt = 0;
    void this.connect(false);
  }

  /** Starts a run. Until it is answered it is asked again after each reconnect, with the same key, so that one run is made. */
  async startRun(start: RunStart): Promise<StartedRun> {
    const fields = { ...start, idempotency_key: start.idempotency_key ?? randomKey() };
    const ack = await new Promise<Frame>((resolve, reject) => {
      const id = this.nextId();
      const asked: Asked = { frame: { ...fields, type: 'run.start', id }, resolve, reject };
      // It would cost the line, and the next one as well.
      if (bytesOf(asked.frame) > LONGEST_FRAME) return reject(tooLarge());
      this.asked.set(id, asked);
      if (this.ready) this.send<'run.start'>(asked.frame);
    });
    return ack as unknown as StartedRun;
  }

  private async connect(refused: boolean): Promise<void> {
    this.cancel('retry');
    const turn = ++this.turn;
    this.tell({ state: 'connecting' });
    // What asks for a ticket, and what opens a socket, may wait for ever on a line that is dead.
    this.after('silence', CONNECT_MS, () => this.closed(NO_CODE));
    try {
      const wire = await this.hooks.open(refused);
      // The close event, which follows, tells the same.
      wire.onerror = () => undefined;
      if (turn !== this.turn || !this.running) return wire.close(1000);
      this.wire = wire;
      wire.onmessage = (message) => {
        if (this.wire === wire) this.receive(String(message.data));
      };
      wire.onclose = ({ code }) => {
        if (this.wire === wire) this.closed(code);
      };
    } catch (error) {
      if (turn !== this.turn || !this.running) return;
      this.drop();
      if (isPassing(error)) this.retry(0, retryAfterOf(error), false, error instanceof NetraError ? error.code : undefined);
      else this.hooks.refused?.(error);
    }
  }

  private closed(code: number): void {
    const refused = this.wire !== undefined && !this.ready;
    this.drop(code === NO_CODE ? 1000 : undefined);
    if (!this.running) return;
    if (code === TOKEN_EXPIRED) void this.renewed(this.turn);
    // What was too big, for the server or a proxy, would be sent again on the next line.
    else if (code === TOO_BIG) this.hooks.refused?.(tooLarge());
    else if (BROKEN.has(code)) this.hooks.refused?.(new NetraError({ code: 'protocol', message: `The server closed with ${code}.` }));
    else if (code === RATE_LIMITED || code === TOO_MANY_SOCKETS) {
      this.attempt = Math.max(this.attempt, SLOWER_ATTEMPT);
      this.retry(code, SLOWER_MS, refused);
    } else this.retry(code, 0, refused);
  }

  private async renewed(turn: number): Promise<void> {
    const good = await this.hooks.renew().catch(() => true);
    if (turn !== this.turn || !this.running || this.wire) return;
    if (good) this.retry(TOKEN_EXPIRED, 0, false);
    else this.hooks.refused?.(new NetraError({ code: 'unauthenticated', message: 'The session has ended.' }));
  }

  private retry(code: number, least: number, refused: boolean, reason?: string): void {
    const retryInMs = backoffMs(this.attempt, this.clock.random(), least);
    this.attempt += 1;
    const told = { closeCode: code, ...(reason === undefined ? {} : { reason }) };
    // A proxy's answer in the server's place has a code of another kind.
    if (reason === undefined ? !WORDLESS.has(code) : PASSING.has(reason)) this.said = told;
    this.tell({ state: 'waiting', retryInMs, ...(this.said ?? told) });
    this.after('retry', retryInMs, () => void this.connect(refused));
  }

  private receive(text: string): void {
    const frame = read(text);
    if (!frame) return;
    this.listen();
    if (frame.type === 'connection_ready') this.welcome(frame);
    else if (frame.type === 'ack' || frame.type === 'error') this.answered(frame);
    else if (frame.type === 'position') this.moved(frame.seq ?? 0);
    else if (typeof frame.seq === 'number') this.take(frame as unknown as WireEvent);
  }

  private welcome(frame: Frame): void {
    this.ready = true;
    this.heartbeatMs = frame.heartbeat_interval_ms ?? HEARTBEAT_MS;
    this.listen();
    if (this.wanted) this.sendSubscribe();
    else this.attempt = 0;
    for (const { frame } of this.asked.values()) this.send<'run.start'>(frame);
    this.planRenewal();
  }

  private answered(frame: Frame): void {
    // A refusal of nothing in particular: the subscription has ended on the server's side.
    if (frame.id == null || frame.id === this.subscription) return this.subscribed(frame);
    const asked = this.asked.get(frame.id);
    // A server that is going down takes no new run; the next one will.
    if (!asked || frame.error?.code === 'draining') return;
    this.asked.delete(frame.id);
    if (frame.error) asked.reject(new NetraError(frame.error));
    else asked.resolve(frame);
  }

  private subscribed(frame: Frame): void {
    this.subscription = undefined;
    this.cancel('subscription');
    if (frame.error?.code === 'cursor_expired') {
      this.wanted = false;
      this.cursor = new Cursor();
      this.hooks.expired(new CursorExpired(frame.error));
    } else if (frame.error && !PASSING.has(frame.error.code)) {
      this.drop(1000);
      this.hooks.refused?.(new NetraError(frame.error));
    } else if (frame.type === 'error') {
      this.closed(NO_CODE);
    } else {
      this.cursor.resolve(frame.epoch ?? '', frame.after ?? 0);
      this.replay = { until: frame.latest_seq ?? 0, count: 0 };
      if (this.cursor.place) this.hooks.subscribed?.(this.cursor.place);
      this.progress();
    }
  }

  // Until a new subscription is answered, what comes belongs to the old one.

  private moved(seq: number): void {
    if (this.subscription !== undefined) return;
    this.cursor.move(seq);
    this.progress();
  }

  private take(event: WireEvent): void {
    if (this.subscription !== undefined || !this.wanted) return;
    const step = this.cursor.take(event.seq, event.prev);
    if (step === 'gap') {
      // The same gap again: not by asking at once, for ever.
      if (this.gap === this.cursor.seq) return this.closed(NO_CODE);
      this.gap = this.cursor.seq;
      this.sendSubscribe();
    } else if (step === 'next') {
      if (this.replay) this.replay.count += 1;
      this.hooks.event(event);
      this.progress();
    }
  }

  /** Tells that the replay has caught up, once. */
  private progress(): void {
    this.confirm();
    if (!this.replay || (this.cursor.seq ?? 0) < this.replay.until) return;
    const { count } = this.replay;
    this.replay = undefined;
    this.attempt = 0;
    this.said = undefined;
    this.tell({ state: 'live', replayed: count, again: this.everLive });
    this.everLive = true;
  }

  private sendSubscribe(): void {
    const { seq, epoch } = this.cursor;
    const { threads, deltas } = this.filter;
    this.replay = undefined;
    this.subscription = this.nextId();
    // Pongs show that the line is alive, not that there will be an answer.
    this.after('subscription', CONNECT_MS, () => this.closed(NO_CODE));
    this.send<'subscribe'>({
      type: 'subscribe',
      id: this.subscription,
      after: seq ?? 'now',
      ...(seq !== undefined && epoch !== undefined ? { epoch } : {}),
      ...(threads ? { threads } : {}),
      ...(deltas === false ? { deltas } : {}),
    });
  }

  private nextId(): string {
    this.frames += 1;
    return `c${this.frames}`;
  }

  private send<T extends ClientFrame['type']>(frame: Outgoing<T>): void {
    try {
      this.wire?.send(JSON.stringify(frame));
    } catch {
      // Not open any more; its close event follows and connects anew.
    }
  }

  /** Browsers answer the server's pings unseen, so a dead line is found by asking after some silence. */
  private listen(): void {
    this.after('silence', this.heartbeatMs + GRACE_MS, () => {
      this.send<'ping'>({ type: 'ping', id: this.nextId() });
      // A dead line may never report its close.
      this.after('silence', ANSWER_MS, () => this.closed(NO_CODE));
    });
  }

  /** Before the token ends, the server is given the next one. */
  private planRenewal(): void {
    const expiresInMs = this.hooks.current?.().expiresInMs;
    if (expiresInMs === undefined) return;
    this.after('renew', Math.max(RENEW_SOONEST_MS, expiresInMs - RENEW_AHEAD_MS), () => void this.renewAhead());
  }

  private async renewAhead(): Promise<void> {
    const wire = this.wire;
    // Another socket may have seen to it.
    const left = this.hooks.current?.().expiresInMs ?? 0;
    const good = left > RENEW_AHEAD_MS + RENEW_SOONEST_MS || (await this.hooks.renew().catch(() => false));
    if (wire === undefined || this.wire !== wire) return;
    const token = this.hooks.current?.().token;
    if (good && token !== undefined) this.token(token);
    this.planRenewal();
  }

  private confirm(): void {
    const seq = this.cursor.seq ?? 0;
    if (seq <= this.confirmed || this.timers.has('delivered')) return;
    this.after('delivered', DELIVERED_EVERY_MS, () => {
      this.confirmed = this.cursor.seq ?? 0;
      this.send<'delivered'>({ type: 'delivered', seq: this.confirmed });
    });
  }

  /** Lets go of the line, or of the attempt to get one. */
  private drop(code?: number): void {
    const wire = this.wire;
    this.turn += 1;
    this.wire = undefined;
    this.ready = false;
    this.subscription = undefined;
    this.replay = undefined;
    this.gap = undefined;
    this.confirmed = 0;
    for (const name of ['silence', 'delivered', 'renew', 'subscription'] as const) this.cancel(name);
    if (wire && code !== undefined) wire.close(code);
  }

  private tell(connection: Connection): void {
    this.hooks.connection?.(connection);
  }

  private after(name: Timer, ms: number, act: () => void): void {
    this.cancel(name);
    const cancel = this.clock.later(ms, () => {
      this.timers.delete(name);
      act();
    });
    this.timers.set(name, cancel);
  }

  private cancel(name: Timer): void {
    this.timers.get(name)?.();
    this.timers.delete(name);
  }
}

function bytesOf(frame: object): number {
  return new TextEncoder().encode(JSON.stringify(frame)).length;
}

function tooLarge(): NetraError {
  return new NetraError({ code: 'too_large', message: 'A frame is at most 64 KiB; start the run over REST, or upload a file.' });
}

function read(text: string): Frame | undefined {
  try {
    const frame = JSON.parse(text) as Frame;
    return typeof frame.type === 'string' ? frame : undefined;
  } catch {
    return undefined;
  }
}
