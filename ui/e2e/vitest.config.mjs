import { defineConfig } from 'vitest/config';

// Two cores are shared by a server, a browser and this program, so one file goes after the other.
export default defineConfig({
  test: {
    root: import.meta.dirname,
    environment: 'node',
    include: ['*.test.mjs'],
    fileParallelism: false,
    testTimeout: 120_000,
    env: { NETRA_E2E_PICTURES: process.env.NETRA_E2E_PICTURES ?? new URL('../../target/pictures', import.meta.url).pathname },
    hookTimeout: 60_000,
  },
});
