// The account and the administration: which request each call is.

import { expect, it } from 'vitest';
import { Netra } from './index.js';

async function asked(act: (netra: Netra) => Promise<unknown>): Promise<{ line: string; body: unknown; key: string | null }> {
  const seen: { line: string; body: unknown; key: string | null }[] = [];
  const netra = new Netra({
    url: 'http://netra.test',
    token: 't',
    fetch: (input, init) => {
      const url = new URL(String(input));
      const body = typeof init?.body === 'string' ? (JSON.parse(init.body) as unknown) : undefined;
      seen.push({ line: `${init?.method} ${url.pathname}${url.search}`, body, key: new Headers(init?.headers).get('Idempotency-Key') });
      return Promise.resolve(new Response('{}', { status: 200 }));
    },
  });
  await act(netra);
  expect(seen).toHaveLength(1);
  return seen[0] as (typeof seen)[number];
}

it.each<[string, (netra: Netra) => Promise<unknown>, unknown]>([
  ['GET /api/keys?limit=5', (netra) => netra.keys.list({ limit: 5 }), undefined],
  ['DELETE /api/keys/key_1', (netra) => netra.keys.revoke('key_1'), undefined],
  ['GET /api/auth/sessions', (netra) => netra.sessions.list(), undefined],
  ['DELETE /api/auth/sessions', (netra) => netra.sessions.revokeAll(), undefined],
  ['DELETE /api/auth/sessions/ses_1', (netra) => netra.sessions.revoke('ses_1'), undefined],
  ['PUT /api/secrets/my.key', (netra) => netra.secrets.put('my.key', { value: 'long enough', hosts: ['a.test'] }), { value: 'long enough', hosts: ['a.test'] }],
  ['GET /api/secrets/a%20b', (netra) => netra.secrets.get('a b'), undefined],
  ['DELETE /api/secrets/a', (netra) => netra.secrets.delete('a'), undefined],
  ['GET /api/audit', (netra) => netra.own.audit(), undefined],
  ['GET /api/me/export', (netra) => netra.own.export(), undefined],
  ['DELETE /api/me', (netra) => netra.own.delete(), {}],
  ['DELETE /api/me', (netra) => netra.own.delete('p'), { password: 'p' }],
  ['GET /api/tool-servers', (netra) => netra.toolServers.list(), undefined],
  ['GET /api/tool-servers/desk', (netra) => netra.toolServers.get('desk'), undefined],
  ['PUT /api/tool-servers/desk', (netra) => netra.toolServers.put('desk', { url: 'https://a.test/' }), { url: 'https://a.test/' }],
  ['DELETE /api/tool-servers/desk', (netra) => netra.toolServers.delete('desk'), undefined],
  ['GET /api/approvals', (netra) => netra.approvals.list(), undefined],
  ['GET /api/admin/users', (netra) => netra.admin.users(), undefined],
  ['PATCH /api/admin/users/usr_1', (netra) => netra.admin.updateUser('usr_1', { plan: 'pro' }), { plan: 'pro' }],
  ['PATCH /api/admin/users/usr_1', (netra) => netra.admin.updateUser('usr_1', { limits: { steps: 9 }, reset_link: true }), { limits: { steps: 9 }, reset_link: true }],
  ['POST /api/admin/users', (netra) => netra.admin.createUser({ name: 'bob', role: 'user' }), { name: 'bob', role: 'user' }],
  ['GET /api/admin/invites?limit=5', (netra) => netra.admin.invites({ limit: 5 }), undefined],
  ['POST /api/admin/invites', (netra) => netra.admin.createInvite({ plan: 'pro' }), { plan: 'pro' }],
  ['DELETE /api/admin/invites/inv_1', (netra) => netra.admin.deleteInvite('inv_1'), undefined],
  ['GET /api/admin/plans', (netra) => netra.admin.plans(), undefined],
  ['PUT /api/admin/plans', (netra) => netra.admin.putPlans({ pro: { steps: 9 } }), { pro: { steps: 9 } }],
  ['GET /api/admin/audit?user=usr_1&action=user.update', (netra) => netra.admin.audit({ user: 'usr_1', action: 'user.update' }), undefined],
  ['GET /api/admin/models', (netra) => netra.admin.models(), undefined],
  ['GET /api/admin/runs?status=running', (netra) => netra.admin.runs({ status: 'running' }), undefined],
  ['POST /api/admin/runs/run_1/cancel', (netra) => netra.admin.cancelRun('run_1'), undefined],
  ['GET /api/admin/isolation', (netra) => netra.admin.isolation(), undefined],
  ['GET /api/admin/metrics/history', (netra) => netra.admin.metricsHistory(), undefined],
  ['POST /api/auth/reset', (netra) => netra.accounts.reset('t', 'p'), { token: 't', password: 'p' }],
  ['POST /api/auth/register', (netra) => netra.accounts.register('ada', 'p'), { name: 'ada', password: 'p' }],
  ['POST /api/auth/register', (netra) => netra.accounts.register('ada', 'p', 'i'), { name: 'ada', password: 'p', invite: 'i' }],
])('%s', async (line, act, body) => {
  expect(await asked(act)).toMatchObject({ line, body });
});

it.each<[string, (netra: Netra) => Promise<unknown>]>([
  ['a key', (netra) => netra.keys.create({ name: 'n', scopes: ['read'] })],
  ['a user', (netra) => netra.admin.createUser({ name: 'bob' })],
  ['an invitation', (netra) => netra.admin.createInvite()],
])('%s is made once, however often the request is sent', async (_, act) => {
  expect((await asked(act)).key).toMatch(/^[0-9a-f]{32}$/);
});
