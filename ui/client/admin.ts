// What admins may do.

import { randomKey, type Http } from './http.js';
import type { Listing } from './resources.js';
import type {
  AdminAuditEntry,
  AdminRun,
  ChangedUser,
  CreateInvite,
  CreateUser,
  Dependencies,
  Invite,
  Isolation,
  Json,
  LimitOverrides,
  MetricsHistory,
  Model,
  Page,
  Plan,
  RunStatus,
  ToolServer,
  UpdateUser,
  User,
} from './types.js';

/** What is absent is as configured. */
export type PlanLimits = Partial<Record<Plan, LimitOverrides>>;

export class Admin {
  constructor(private readonly http: Http) {}

  users(listing: Listing = {}): Promise<Page<User>> {
    return this.http.json('GET', '/api/admin/users', { query: { ...listing } });
  }

  /** Without a password the answer has a link by which the user sets one, this once. */
  createUser(user: CreateUser): Promise<ChangedUser> {
    return this.http.json('POST', '/api/admin/users', { body: user, key: randomKey() });
  }

  updateUser(id: string, change: UpdateUser): Promise<ChangedUser> {
    return this.http.json('PATCH', `/api/admin/users/${id}`, { body: change });
  }

  /** Those that nobody has taken yet. */
  invites(listing: Listing = {}): Promise<Page<Invite>> {
    return this.http.json('GET', '/api/admin/invites', { query: { ...listing } });
  }

  /** The answer has the link, this once. */
  createInvite(invite: CreateInvite = {}): Promise<Invite> {
    return this.http.json('POST', '/api/admin/invites', { body: invite, key: randomKey() });
  }

  async deleteInvite(id: string): Promise<void> {
    await this.http.call('DELETE', `/api/admin/invites/${id}`);
  }

  plans(): Promise<PlanLimits> {
    return this.http.json('GET', '/api/admin/plans');
  }

  /** Sets the limits of all plans: one that is absent has those of the configuration from then on. */
  putPlans(plans: PlanLimits): Promise<PlanLimits> {
    return this.http.json('PUT', '/api/admin/plans', { body: plans });
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

  audit(listing: Listing & { user?: string | undefined; action?: string | undefined } = {}): Promise<Page<AdminAuditEntry>> {
    return this.http.json('GET', '/api/admin/audit', { query: { ...listing } });
  }

  models(listing: Listing = {}): Promise<Page<Model>> {
    return this.http.json('GET', '/api/admin/models', { query: { ...listing } });
  }

  metrics(): Promise<Json> {
    return this.http.json('GET', '/api/metrics');
  }

  metricsHistory(): Promise<MetricsHistory> {
    return this.http.json('GET', '/api/admin/metrics/history');
  }

  dependencies(): Promise<Dependencies> {
    return this.http.json('GET', '/health/dependencies');
  }
}
