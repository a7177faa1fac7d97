// Limits as an admin writes them: empty fields stand for what is below, the plan or the configuration.

import type { LimitOverrides, Limits, Plan, Role } from '../../client';

export const ROLES: readonly Role[] = ['user', 'developer', 'admin'];
export const PLANS: readonly Plan[] = ['free', 'pro', 'enterprise'];

const KNOWN: Record<keyof LimitOverrides, true> = {
  concurrent_runs: true,
  queued_runs: true,
  memory_mib: true,
  budget_usd: true,
  budget_tokens: true,
  run_timeout_ms: true,
  run_timeout_max_ms: true,
  steps: true,
  tool_calls: true,
  depth: true,
  attempts: true,
  model_call_ms: true,
  tool_call_ms: true,
  approval_ttl_ms: true,
  message_chars: true,
  upload_mib: true,
  sockets: true,
  messages_per_10s: true,
  requests_per_minute: true,
  key_requests_per_minute: true,
};
export type LimitKey = keyof LimitOverrides & keyof Limits;
export const LIMITS = Object.keys(KNOWN) as LimitKey[];

/** What stands in the fields; an input of numbers gives numbers, or null when it is emptied. */
export type Written = Partial<Record<LimitKey, string | number | null>>;

export function written(limits: LimitOverrides | undefined): Written {
  return Object.fromEntries(LIMITS.flatMap((key) => (limits?.[key] == null ? [] : [[key, limits[key]]])));
}

export function limitsOf(fields: Written): LimitOverrides {
  const filled = LIMITS.filter((key) => fields[key] != null && String(fields[key]).trim() !== '');
  return Object.fromEntries(filled.map((key) => [key, Number(fields[key])]));
}
