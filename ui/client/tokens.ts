// Signing in, and what a program keeps of it: credentials that renew themselves.

import { isPassing } from './errors.js';
import { Http, type Credentials, type HttpOptions } from './http.js';
import type { Tokens } from './types.js';

/** What may be asked without an access token. */
export class Accounts {
  constructor(private readonly http: Http) {}

  setup(token: string, name: string, password: string): Promise<Partial<Tokens>> {
    return this.http.json('POST', '/api/auth/setup', { body: { token, name, password } });
  }

  register(name: string, password: string, invite?: string): Promise<Tokens> {
    return this.http.json('POST', '/api/auth/register', { body: { name, password, ...(invite === undefined ? {} : { invite }) } });
  }

  /** Sets a password by the token of a link that an admin has given. */
  async reset(token: string, password: string): Promise<void> {
    await this.http.call('POST', '/api/auth/reset', { body: { token, password } });
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

/** Credentials from a sign-in. The refresh token rotates: `changed` is told of each new pair, for who keeps it somewhere. */
export class TokenPair implements Credentials {
  private readonly accounts: Accounts;
  private expiresAt: number;

  constructor(
    http: HttpOptions,
    private tokens: Tokens,
    private readonly changed: (tokens: Tokens) => void = () => undefined,
  ) {
    this.accounts = new Accounts(new Http({ ...http, credentials: undefined }));
    this.expiresAt = Date.now() + tokens.expires_in_ms;
  }

  static async signIn(http: HttpOptions, name: string, password: string, changed?: (tokens: Tokens) => void): Promise<TokenPair> {
    const accounts = new Accounts(new Http({ ...http, credentials: undefined }));
    const tokens = await accounts.login(name, password);
    changed?.(tokens);
    return new TokenPair(http, tokens, changed);
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
      this.tokens = await this.accounts.refresh(this.tokens.refresh_token);
      this.expiresAt = Date.now() + this.tokens.expires_in_ms;
      this.changed(this.tokens);
      return true;
    } catch (error) {
      if (isPassing(error)) throw error;
      return false;
    }
  }
}
