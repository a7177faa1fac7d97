import { fileURLToPath } from 'node:url';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

// Where `npm run dev` finds the server; the built page is served by it.
const server = process.env.NETRA_SERVER ?? 'http://127.0.0.1:8080';

export default defineConfig({
  plugins: [svelte()],
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
    // The content security policy allows no data: scripts or styles, so every asset is a file.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
  },
  server: {
    port: 5173,
    proxy: { '/api': server, '/ws': { target: server, ws: true }, '/health': server },
  },
  test: {
    environment: 'jsdom',
    include: ['{src,client}/**/*.test.ts'],
  },
});
