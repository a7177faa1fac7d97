// What admins may do.

import type { Http } from './http.js';
import type { Listing } from './resources.js';
import type { AdminRun, AuditEntry, Dependencies, Isolation, Json, Page, RunStatus, ToolServer, UpdateUser, User } from './types.js';

export class Admin {
  constructor(private readonly http: Http) {}

  users(listing: Listing = {}): Promise<Page<User>> {
    return this.http.json('GET', '/api/admin/users', { query: { ...listing } });
  }

  updateUser(id: string, change: UpdateUser): Promise<User> {
    return this.http.json('PATCH', `/api/admin/users/${id}`, { body: change });
  }

  /** Everybody's runs, without what they are about. */
  runs(listing: Listing & { user?: string | undefined; status?: RunStatus | undefined } = {}): Promise<Page<AdminRun>> {
    return this.http.json('GET', '/api/admin/runs', { query: { ...listing } });
  }

  async cancelRun(id: string): Promise<void> {
    await this.http.call('POST', `/api/admin/runs/${id}/cancel`);
  }

  isolation(): Promise<Isolation> {
    return this.http.json('GET', '/api/admin/isolation');
  }

  toolServers(listing: Listing = {}): Promise<Page<ToolServer>> {
    return this.http.json('GET', '/api/admin/tool-servers', { query: { ...listing } });
  }

  audit(listing: Listing = {}): Promise<Page<AuditEntry>> {
    return this.http.json('GET', '/api/admin/audit', { query: { ...listing } });
  }

  models(): Promise<Json> {
    return this.http.json('GET', '/api/admin/models');
  }

  metrics(): Promise<Json> {
    return this.http.json('GET', '/api/metrics');
  }

  metricsHistory(): Promise<Json> {
    return this.http.json('GET', '/api/admin/metrics/history');
  }

  dependencies(): Promise<Dependencies> {
    return this.http.json('GET', '/health/dependencies');
  }
}
