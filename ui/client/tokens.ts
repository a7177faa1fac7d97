// Signing in with a name and a password, or going on from tokens; a program's credentials, which renew themselves.

import { isPassing } from './errors.js';
import { Http, type Credentials, type HttpOptions } from './http.js';
import type { Tokens } from './types.js';

/** What may be asked without an access token. */
export class Accounts {
  constructor(private readonly http: Http) {}

  setup(token: string, name: string, password: string): Promise<Partial<Tokens>> {
    return this.http.json('POST', '/api/auth/setup', { body: { token, name, password } });
  }

  login(name: string, password: string): Promise<Tokens> {
    return this.http.json('POST', '/api/auth/login', { body: { name, password } });
  }

  /** Without a token the HttpOnly cookie is used, or on a `--dev` server the loopback address. */
  refresh(refreshToken?: string): Promise<Tokens> {
    const body = refreshToken === undefined ? {} : { refresh_token: refreshToken };
    return this.http.json('POST', '/api/auth/refresh', { body });
  }
}

/** Credentials from a sign-in. The refresh token rotates, so `changed` is told of each new pair, to be kept where it must be. */
export class TokenPair implements Credentials {
  private expiresAt = 0;

  private constructor(
    private readonly accounts: Accounts,
    private tokens: Tokens,
    private readonly changed: (tokens: Tokens) => void,
  ) {
    this.accept(tokens);
  }

  static async signIn(http: HttpOptions, name: string, password: string, changed: (tokens: Tokens) => void = () => undefined): Promise<TokenPair> {
    const accounts = new Accounts(new Http(http));
    return new TokenPair(accounts, await accounts.login(name, password), changed);
  }

  token(): string {
    return this.tokens.access_token;
  }

  expiresInMs(): number {
    return this.expiresAt - Date.now();
  }

  /** Throws when the server is away: the session may still be good. */
  async renew(): Promise<boolean> {
    try {
      this.accept(await this.accounts.refresh(this.tokens.refresh_token ?? undefined));
      return true;
    } catch (error) {
      if (isPassing(error)) throw error;
      return false;
    }
  }

  private accept(tokens: Tokens): void {
    this.tokens = tokens;
    this.expiresAt = Date.now() + tokens.expires_in_ms;
    this.changed(tokens);
  }
}
