// What belongs to the account itself: keys, sessions, secrets, its audit, and taking all of it along or away.

import { randomKey, type Http } from './http.js';
import type { Listing } from './resources.js';
import type { AuditEntry, CreateKey, Key, OwnToolServer, Page, PutSecret, PutToolServer, SecretInfo, Session } from './types.js';

export class Keys {
  constructor(private readonly http: Http) {}

  list(listing: Listing = {}): Promise<Page<Key>> {
    return this.http.json('GET', '/api/keys', { query: { ...listing } });
  }

  /** The answer has the secret, this once. */
  create(key: CreateKey): Promise<Key> {
    return this.http.json('POST', '/api/keys', { body: key, key: randomKey() });
  }

  async revoke(id: string): Promise<void> {
    await this.http.call('DELETE', `/api/keys/${id}`);
  }
}

export class Sessions {
  constructor(private readonly http: Http) {}

  list(listing: Listing = {}): Promise<Page<Session>> {
    return this.http.json('GET', '/api/auth/sessions', { query: { ...listing } });
  }

  async revoke(id: string): Promise<void> {
    await this.http.call('DELETE', `/api/auth/sessions/${id}`);
  }

  /** All of them, this one too. */
  async revokeAll(): Promise<void> {
    await this.http.call('DELETE', '/api/auth/sessions');
  }
}

/** Values go in and never come out. The contract lists no names: who wants a secret asks for it by name. */
export class Secrets {
  constructor(private readonly http: Http) {}

  get(name: string): Promise<SecretInfo> {
    return this.http.json('GET', `/api/secrets/${encodeURIComponent(name)}`);
  }

  put(name: string, secret: PutSecret): Promise<SecretInfo> {
    return this.http.json('PUT', `/api/secrets/${encodeURIComponent(name)}`, { body: secret });
  }

  async delete(name: string): Promise<void> {
    await this.http.call('DELETE', `/api/secrets/${encodeURIComponent(name)}`);
  }
}

/** The user's own tool servers, for the user's own runs. */
export class ToolServers {
  constructor(private readonly http: Http) {}

  list(listing: Listing = {}): Promise<Page<OwnToolServer>> {
    return this.http.json('GET', '/api/tool-servers', { query: { ...listing } });
  }

  get(name: string): Promise<OwnToolServer> {
    return this.http.json('GET', `/api/tool-servers/${encodeURIComponent(name)}`);
  }

  /** Takes the place of the one that had the name. */
  put(name: string, server: PutToolServer): Promise<OwnToolServer> {
    return this.http.json('PUT', `/api/tool-servers/${encodeURIComponent(name)}`, { body: server });
  }

  async delete(name: string): Promise<void> {
    await this.http.call('DELETE', `/api/tool-servers/${encodeURIComponent(name)}`);
  }
}

export class OwnData {
  constructor(private readonly http: Http) {}

  audit(listing: Listing = {}): Promise<Page<AuditEntry>> {
    return this.http.json('GET', '/api/audit', { query: { ...listing } });
  }

  /** Everything that is the user's, as one archive. */
  export(): Promise<Blob> {
    return this.http.blob('/api/me/export');
  }

  /** Deletes the account and all that is its own. The password is needed where the sign-in is not of the last minutes. */
  async delete(password?: string): Promise<void> {
    await this.http.call('DELETE', '/api/me', { body: password === undefined ? {} : { password } });
  }
}
