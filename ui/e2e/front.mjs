// Stands before the server and serves a page that was just built in place of the one in the binary: to try the page
// without compiling the server. Everything else goes through, as if it came from the server's own address.

import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import { connect } from 'node:net';
import { extname, join, normalize } from 'node:path';

const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.woff2': 'font/woff2' };
const API = /^\/(api|ws|health)(\/|\?|$)/;

export class Front {
  url = '';
  #page;
  #server;
  #target;
  #policy;

  /** @param {string} page the folder of the built page @param {() => string} target the server's address, now */
  static async start(page, target) {
    const front = new Front();
    front.#page = page;
    front.#target = target;
    const answer = await fetch(target());
    front.#policy = answer.headers.get('content-security-policy');
    front.#server = createServer((incoming, outgoing) => void front.#answer(incoming, outgoing));
    front.#server.on('upgrade', (incoming, socket, head) => front.#upgrade(incoming, socket, head));
    front.#server.listen(0, '127.0.0.1');
    await once(front.#server, 'listening');
    front.url = `http://127.0.0.1:${front.#server.address().port}`;
    return front;
  }

  #headers(incoming) {
    const { host } = new URL(this.#target());
    const headers = { ...incoming.headers, host };
    if (headers.origin === this.url) headers.origin = `http://${host}`;
    return headers;
  }

  async #answer(incoming, outgoing) {
    if (!API.test(incoming.url)) return this.#file(incoming, outgoing);
    const { hostname, port } = new URL(this.#target());
    const out = request({ hostname, port, method: incoming.method, path: incoming.url, headers: this.#headers(incoming) }, (answer) => {
      outgoing.writeHead(answer.statusCode, answer.headers);
      answer.pipe(outgoing);
      answer.on('error', () => outgoing.destroy());
    });
    // The server is away: the browser is to see a line that breaks, as it would without this one in between.
    out.on('error', () => incoming.socket.destroy());
    outgoing.on('close', () => out.destroy());
    incoming.pipe(out);
  }

  #upgrade(incoming, socket, head) {
    const { hostname, port } = new URL(this.#target());
    const out = connect(Number(port), hostname, () => {
      const lines = Object.entries(this.#headers(incoming)).map(([name, value]) => `${name}: ${value}`);
      out.write(`GET ${incoming.url} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`);
      out.write(head);
      socket.pipe(out).pipe(socket);
    });
    for (const [one, other] of [[out, socket], [socket, out]]) {
      one.on('error', () => other.destroy());
      one.on('close', () => other.destroy());
    }
  }

  /** As the server does: packed, where there is a packed copy and the browser reads it. */
  async #file(incoming, outgoing) {
    const { pathname } = new URL(incoming.url, this.url);
    const name = extname(pathname) ? normalize(pathname) : '/index.html';
    const read = (path) => readFile(join(this.#page, path)).catch(() => undefined);
    const packed = /\bgzip\b/.test(incoming.headers['accept-encoding']) ? await read(`${name}.gz`) : undefined;
    const content = packed ?? (await read(name));
    if (!content) return outgoing.writeHead(404).end();
    const encoding = packed ? { 'content-encoding': 'gzip' } : {};
    outgoing.writeHead(200, { ...encoding, 'content-type': TYPES[extname(name)] ?? 'application/octet-stream', 'content-security-policy': this.#policy, 'x-content-type-options': 'nosniff' });
    outgoing.end(content);
  }

  close() {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}
