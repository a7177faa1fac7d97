// Who is signed in. The access token lives in memory only; a HttpOnly cookie gets the next one.

import { ApiError, Netra, type Credentials, type Tokens, type User } from '../../client';

/** The token is renewed this long before it ends. */
const AHEAD_MS = 60_000;
const SOONEST_MS = 5_000;
const AFTER_FAILURE_MS = 10_000;

export class Session implements Credentials {
  user = $state<User | undefined>();
  state = $state<'unknown' | 'out' | 'in'>('unknown');
  /** Told each time there is a new access token. */
  renewed: (token: string) => void = () => undefined;

  private readonly accounts = new Netra({}).accounts;
  private access: string | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private renewing: Promise<boolean> | undefined;

  token(): string | undefined {
    return this.access;
  }

  /** At load: signed in when the cookie (or a `--dev` server) says so. Throws when the server cannot be reached. */
  async restore(): Promise<void> {
    await this.renew();
    if (this.state === 'unknown') throw new TypeError('network');
  }

  async signIn(name: string, password: string): Promise<void> {
    this.accept(await this.accounts.login(name, password));
  }

  async setUp(token: string, name: string, password: string): Promise<void> {
    const made = await this.accounts.setup(token, name, password);
    if (made.access_token) this.accept(made as Tokens);
    else await this.signIn(name, password);
  }

  async register(invite: string, name: string, password: string): Promise<void> {
    this.accept(await this.accounts.register(name, password, invite || undefined));
  }

  /** Sets a new password; whoever has set it signs in with it. */
  async reset(token: string, password: string): Promise<void> {
    await this.accounts.reset(token, password);
  }

  renew(): Promise<boolean> {
    this.renewing ??= this.renewOnce().finally(() => {
      this.renewing = undefined;
    });
    return this.renewing;
  }

  /** Forgets the token; the caller has told the server. */
  end(): void {
    clearTimeout(this.timer);
    this.access = undefined;
    this.user = undefined;
    this.state = 'out';
  }

  private async renewOnce(): Promise<boolean> {
    try {
      this.accept(await alone(() => this.accounts.refresh()));
      return true;
    } catch (error) {
      if (error instanceof ApiError && error.status >= 400 && error.status < 500 && error.status !== 429) {
        this.end();
      } else if (this.state === 'in') {
        // The server is away or busy: still signed in, and asked again.
        this.schedule(AFTER_FAILURE_MS);
      }
      return false;
    }
  }

  private accept(login: Tokens): void {
    this.access = login.access_token;
    this.user = login.user;
    this.state = 'in';
    this.schedule(Math.max(SOONEST_MS, login.expires_in_ms - AHEAD_MS));
    this.renewed(login.access_token);
  }

  private schedule(ms: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.renew(), ms);
  }
}

/**
 * One tab at a time: all tabs share the rotating cookie, and to use an old one twice would revoke the session.
 * Web locks exist on secure origins only; elsewhere the tabs take their chance.
 */
function alone<T>(act: () => Promise<T>): Promise<T> {
  return navigator.locks ? (navigator.locks.request('netra-refresh', act) as Promise<T>) : act();
}
