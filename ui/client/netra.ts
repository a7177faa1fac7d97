// The top of the client: one object for one user of one server.

import { Keys, OwnData, Secrets, Sessions, ToolServers } from './account.js';
import { Admin } from './admin.js';
import type { Clock } from './clock.js';
import { NetraError } from './errors.js';
import { Http, type Credentials } from './http.js';
import { Approvals, Catalogue, Files, Runs, stream, Threads, type Agents, type Tools } from './resources.js';
import { Accounts, TokenPair } from './tokens.js';
import { EventSocket, type Hooks, type Wire } from './socket.js';
import { follow } from './sse.js';
import { EventStream, type StreamOptions } from './stream.js';
import type { WireEvent, Ticket, Usage, User } from './types.js';

/** `WebSocket`, or what takes its place: the npm package `ws` in Node before version 22. */
export type WebSocketClass = new (url: string | URL, protocols?: string[]) => object;

export interface NetraOptions {
  /** The server's address; the page's own server when absent. */
  url?: string | undefined;
  /** An access token or API key; or where the next token comes from, asked at first and whenever the last one has ended. */
  token?: string | (() => Promise<string>) | undefined;
  /** In place of `token`: who holds it, a `TokenPair` for instance. */
  credentials?: Credentials | undefined;
  WebSocket?: WebSocketClass | undefined;
  /** How a socket is opened: by a ticket, the default in browsers, or with the token as a subprotocol, the default elsewhere. */
  opening?: 'ticket' | 'bearer' | undefined;
  fetch?: typeof fetch | undefined;
  /** How often a request that may be repeated is tried when the server is away; 4 when absent. */
  attempts?: number | undefined;
  clock?: Clock | undefined;
}

const ATTEMPTS = 4;
const inBrowser = 'document' in globalThis;

export class Netra {
  readonly runs: Runs;
  readonly threads: Threads;
  readonly files: Files;
  readonly agents: Agents;
  readonly tools: Tools;
  readonly approvals: Approvals;
  readonly keys: Keys;
  readonly sessions: Sessions;
  readonly secrets: Secrets;
  readonly toolServers: ToolServers;
  readonly own: OwnData;
  readonly admin: Admin;
  /** Signing in; needs no credentials. */
  readonly accounts: Accounts;
  private readonly http: Http;
  private readonly streams = new Set<EventStream>();

  constructor(private readonly options: NetraOptions) {
    const { token, credentials = token === undefined ? undefined : held(token) } = options;
    const url = addressOf(options.url);
    this.http = new Http({ ...options, url, credentials, attempts: options.attempts ?? ATTEMPTS });
    this.accounts = new Accounts(new Http({ ...options, url, credentials: undefined }));
    this.runs = new Runs(this.http);
    this.threads = new Threads(this.http);
    this.files = new Files(this.http);
    this.agents = new Catalogue(this.http, '/api/agents');
    this.tools = new Catalogue(this.http, '/api/tools');
    this.approvals = new Approvals(this.http);
    this.keys = new Keys(this.http);
    this.sessions = new Sessions(this.http);
    this.secrets = new Secrets(this.http);
    this.toolServers = new ToolServers(this.http);
    this.own = new OwnData(this.http);
    this.admin = new Admin(this.http);
  }

  /** Signs in with a name and a password. */
  static async signIn(options: Omit<NetraOptions, 'token' | 'credentials'>, name: string, password: string): Promise<Netra> {
    const credentials = await TokenPair.signIn({ ...options, url: addressOf(options.url) }, name, password);
    return new Netra({ ...options, credentials });
  }

  me(): Promise<User> {
    return this.http.json('GET', '/api/auth/me');
  }

  usage(): Promise<Usage> {
    return this.http.json('GET', '/api/usage');
  }

  async logout(): Promise<void> {
    await this.http.call('POST', '/api/auth/logout', { body: {} });
  }

  /** All events of the user over a socket of its own, which connects at once. */
  events(options: StreamOptions = {}): EventStream {
    const stream = new EventStream(this.line(), options, (ended) => this.streams.delete(ended));
    if (!options.signal?.aborted) this.streams.add(stream);
    return stream;
  }

  /** The same over server-sent events, where a proxy lets no socket through. */
  eventsBySse(options: Omit<StreamOptions, 'connection'> = {}): AsyncGenerator<WireEvent, void> {
    const { after = 'now', threads, deltas, signal } = options;
    return follow({
      clock: this.http.clock,
      oneRun: false,
      signal,
      after: after === 'now' ? undefined : typeof after === 'number' ? { seq: after } : after,
      open: (last, signal) => stream(this.http, '/api/events', { deltas, threads: threads?.join(',') }, last, signal),
    });
  }

  /** The socket itself, for who folds events in as they come. */
  socket(hooks: Omit<Hooks, keyof ReturnType<Netra['line']>>): EventSocket {
    return new EventSocket({ ...this.line(), ...hooks });
  }

  /** Ends all streams of events. */
  close(): void {
    for (const stream of [...this.streams]) stream.close();
  }

  private line(): Pick<Hooks, 'open' | 'renew' | 'current' | 'clock'> & { clock: Clock } {
    return {
      open: (refused) => this.open(refused),
      renew: () => this.http.renew(),
      current: () => ({ token: this.http.token, expiresInMs: this.http.tokenExpiresInMs }),
      clock: this.http.clock,
    };
  }

  private async open(refused: boolean): Promise<Wire> {
    const WebSocket = this.options.WebSocket ?? (globalThis as { WebSocket?: WebSocketClass }).WebSocket;
    if (!WebSocket) {
      const message = 'There is no WebSocket here: give the class of the npm package `ws` as the option WebSocket.';
      throw new NetraError({ code: 'no_websocket', message });
    }
    const { opening = inBrowser ? 'ticket' : 'bearer' } = this.options;
    const token = await this.http.needed();
    const url = this.http.address('/ws');
    url.protocol = url.protocol.replace('http', 'ws');
    // A refused handshake tells a WebSocket nothing. A ticket is asked for by a request, whose refusal says why, and when again.
    if (opening === 'bearer' && !refused && token !== undefined) {
      return new WebSocket(url, ['netra.v1', `bearer.${token}`]) as Wire;
    }
    const { ticket } = await this.http.json<Ticket>('POST', '/api/auth/ws-ticket', { body: {} });
    url.searchParams.set('ticket', ticket);
    return new WebSocket(url) as Wire;
  }
}

function addressOf(url: string | undefined): string {
  const address = url ?? (globalThis as { location?: { origin: string } }).location?.origin;
  if (address === undefined) throw new TypeError('outside of a page the option url is needed');
  return address;
}

/** A token that is given, or asked for. */
function held(source: string | (() => Promise<string>)): Credentials {
  if (typeof source === 'string') return { token: () => source, renew: () => Promise.resolve(false) };
  let token: string | undefined;
  return {
    token: () => token,
    async renew() {
      token = await source();
      return true;
    },
  };
}

