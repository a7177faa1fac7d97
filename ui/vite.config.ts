import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import type { Plugin } from 'vite';
import { defineConfig } from 'vitest/config';

// Where `npm run dev` finds the server; the built page is served by it.
const server = process.env.NETRA_SERVER ?? 'http://127.0.0.1:8080';

/** Puts a packed copy beside each file that is worth it: the server sends it to whoever reads gzip. */
const packed: Plugin = {
  name: 'packed',
  apply: 'build',
  writeBundle({ dir = '' }, bundle) {
    for (const name of Object.keys(bundle).filter((one) => /\.(js|css|csv)$/.test(one))) {
      const path = join(dir, name);
      writeFileSync(`${path}.gz`, gzipSync(readFileSync(path), { level: 9 }));
    }
  },
};

export default defineConfig({
  plugins: [svelte(), packed],
  resolve: {
    // The client's sources: what `npm run build -w client` has made may be older.
    alias: [
      {
        find: /^(\.\.\/)+client$/,
        replacement: fileURLToPath(new URL('client/index.ts', import.meta.url)),
      },
    ],
  },
  build: {
    target: 'es2022',
    // Four in a hundred smaller than what comes with Vite.
    minify: 'terser',
    terserOptions: { module: true, ecma: 2020, compress: { passes: 2 } },
    // The content security policy allows no data: scripts or styles, so every asset is a file.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
  },
  server: {
    port: 5173,
    // The sample log is the repository's.
    fs: { allow: ['..'] },
    proxy: { '/api': server, '/ws': { target: server, ws: true }, '/health': server },
  },
  test: {
    environment: 'jsdom',
    include: ['{src,client}/**/*.test.ts'],
  },
});
