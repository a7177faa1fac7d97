// The examples in TypeScript of the API guide, as docs/api-guide.md has them.

import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { Netra } from '@netra/client';
import { PASSWORD, Server } from '../../e2e/server.mjs';

const page = await readFile(new URL('../../../docs/api-guide.md', import.meta.url), 'utf8');
const examples = [...page.matchAll(/```ts\n(.*?)```\n\n```text\n(.*?)```/gs)].map(([, code, says]) => ({ code, says }));

let server;
let folder;

beforeAll(async () => {
  server = await Server.start();
  await server.addUser('ada');
  const netra = await Netra.signIn({ url: server.url }, 'ada', PASSWORD);
  const key = await netra.keys.create({ name: 'guide', scopes: ['read', 'run', 'files'] });
  await netra.close();
  vi.stubEnv('NETRA_URL', server.url);
  vi.stubEnv('NETRA_TOKEN', key.secret);
  // Beside this file, so that the package is found.
  folder = await mkdtemp(join(import.meta.dirname, '.guide-'));
});

afterAll(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true, force: true });
  await server?.close();
});

it('has examples', () => {
  expect(examples.length).toBe(page.split('```ts\n').length - 1);
  expect(examples.length).toBeGreaterThan(0);
});

it.each(examples.map((example, number) => [number + 1, example]))('says what the guide says: example %i', async (number, { code, says }) => {
  const file = join(folder, `${number}.ts`);
  await writeFile(file, code);
  const lines = [];
  const log = vi.spyOn(console, 'log').mockImplementation((...words) => lines.push(words.join(' ')));
  try {
    await import(/* @vite-ignore */ file);
  } finally {
    log.mockRestore();
  }
  expect(`${lines.join('\n')}\n`).toBe(says);
});
