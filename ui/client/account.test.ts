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
  ['DELETE /api/auth/sessions/ses_1', (netra) => netra.sessions.revoke('ses_1'), undefined],
  ['PUT /api/secrets/my.key', (netra) => netra.secrets.put('my.key', { value: 'long enough', hosts: ['a.test'] }), { value: 'long enough', hosts: ['a.test'] }],
  ['GET /api/secrets/a%20b', (netra) => netra.secrets.get('a b'), undefined],
  ['DELETE /api/secrets/a', (netra) => netra.secrets.delete('a'), undefined],
  ['GET /api/audit', (netra) => netra.own.audit(), undefined],
  ['GET /api/me/export', (netra) => netra.own.export(), undefined],
  ['DELETE /api/me', (netra) => netra.own.delete(), undefined],
  ['GET /api/approvals', (netra) => netra.approvals.list(), undefined],
  ['GET /api/admin/users', (netra) => netra.admin.users(), undefined],
  ['PATCH /api/admin/users/usr_1', (netra) => netra.admin.updateUser('usr_1', { plan: 'pro' }), { plan: 'pro' }],
  ['GET /api/admin/runs?status=running', (netra) => netra.admin.runs({ status: 'running' }), undefined],
  ['POST /api/admin/runs/run_1/cancel', (netra) => netra.admin.cancelRun('run_1'), undefined],
  ['GET /api/admin/isolation', (netra) => netra.admin.isolation(), undefined],
  ['GET /api/admin/metrics/history', (netra) => netra.admin.metricsHistory(), undefined],
  ['POST /api/auth/reset', (netra) => netra.accounts.reset('t', 'p'), { token: 't', password: 'p' }],
  ['POST /api/auth/register', (netra) => netra.accounts.register('ada', 'p'), { name: 'ada', password: 'p' }],
])('%s', async (line, act, body) => {
  expect(await asked(act)).toMatchObject({ line, body });
});

it('a key is made once, however often the request is sent', async () => {
  expect((await asked((netra) => netra.keys.create({ name: 'n', scopes: ['read'] }))).key).toMatch(/^[0-9a-f]{32}$/);
});
