// The real server for a test: the binary that NETRA_BINARY names, with a data folder of its own.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Front } from './front.mjs';

export const PASSWORD = 'a long enough password';

function binary() {
  const path = process.env.NETRA_BINARY;
  if (!path) throw new Error('NETRA_BINARY names no server; `cargo xtask test browser` sets it');
  return path;
}

/** Nothing of the environment around a test changes what the server does. */
function environment(settings) {
  return { PATH: process.env.PATH ?? '', HOME: process.env.HOME ?? '/', ...settings };
}

export class Server {
  url = '';
  setupLink = undefined;
  log = '';
  #args;
  #settings;
  #child;
  #data;
  #front;
  #own = '';

  /** @param {{args?: string[], settings?: Record<string, string>}} options */
  static async start({ args = [], settings = {}, config } = {}) {
    const server = new Server();
    server.#data = await mkdtemp(join(tmpdir(), 'netra-e2e-'));
    server.#args = args;
    if (config !== undefined) {
      const file = join(server.#data, 'netra.toml');
      await writeFile(file, config);
      server.#args = [...args, '--config', file];
    }
    // Many signing in from one address within seconds is what a test does, not what a person does; and browsers and
    // servers of tests share the processors.
    server.#settings = environment({ NETRA__LIMITS__LOGINS_PER_MINUTE: '100', NETRA__LIMITS__TURN_WAIT_MS: '60000', ...settings });
    await server.#run('127.0.0.1:0');
    const page = process.env.NETRA_E2E_PAGE;
    if (page) {
      server.#front = await Front.start(page, () => server.#own);
      server.url = server.#front.url;
    }
    return server;
  }

  async #run(listen) {
    const args = ['serve', '--listen', listen, '--data', this.#data, ...this.#args];
    const child = spawn(binary(), args, { env: this.#settings, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    child.stderr.setEncoding('utf8').on('data', (text) => {
      this.log += text;
      this.setupLink = /http:\S+\/setup#token=\S+/.exec(this.log)?.[0] ?? this.setupLink;
    });
    const ready = new Promise((resolve, reject) => {
      createInterface({ input: child.stdout }).on('line', (line) => {
        const url = /^ready (\S+)$/.exec(line)?.[1];
        if (url) resolve(url);
      });
      child.once('error', reject);
      child.once('exit', (code) => reject(new Error(`the server ended with ${code} before it was ready:\n${this.log}`)));
    });
    this.#own = await ready;
    if (!this.#front) this.url = this.#own;
  }

  /** The link for the first admin, which comes by another pipe than the line that says that the server is ready. */
  async firstAdminLink() {
    while (this.setupLink === undefined) await once(this.#child.stderr, 'data');
    return this.setupLink.replace(this.#own, this.url);
  }

  /** Makes an account that can sign in with `PASSWORD`. */
  async addUser(name, role = 'user') {
    const child = spawn(binary(), ['user', 'add', name, '--role', role, '--data', this.#data, '--password-stdin'], {
      env: this.#settings,
      stdio: ['pipe', 'ignore', 'inherit'],
    });
    child.stdin.end(`${PASSWORD}\n`);
    const [code] = await once(child, 'exit');
    if (code !== 0) throw new Error(`netra user add ended with ${code}`);
  }

  /** Ends the process and waits until it is gone. */
  async end(signal) {
    const child = this.#child;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill(signal);
    await gone;
  }

  /** Starts it again on the same port and the same data, with more in its environment where that is named. */
  restart(settings = {}) {
    this.#settings = { ...this.#settings, ...settings };
    return this.#run(new URL(this.#own).host);
  }

  async close() {
    this.#front?.close();
    await this.end('SIGKILL');
    await rm(this.#data, { recursive: true, force: true });
  }
}
