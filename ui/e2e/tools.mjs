// A tool server whose one tool needs a person's word: what the page asks about.

import { once } from 'node:events';
import { createServer } from 'node:http';

const TOOL = {
  name: 'send',
  description: 'Sends a letter.',
  inputSchema: {
    type: 'object',
    properties: { to: { type: 'string' }, text: { type: 'string' } },
    required: ['to', 'text'],
    additionalProperties: false,
  },
};

export class PostOffice {
  /** What it was asked to send. */
  letters = [];
  /** While this is not done, letters are taken and not answered. */
  counter = Promise.resolve();
  #server;
  #looking = [];

  static async start() {
    const office = new PostOffice();
    office.#server = createServer((request, response) => void office.#take(request, response));
    office.#server.listen(0, '127.0.0.1');
    await once(office.#server, 'listening');
    return office;
  }

  /** What the server is to be told, in its configuration file. */
  get config() {
    return `[mcp.servers.post]\nurl = "http://127.0.0.1:${this.#server.address().port}/mcp"\nprotocol = "2025-11-25"\nneeds_approval = true\npermission = "basic"\n`;
  }

  async #take(request, response) {
    if (request.method !== 'POST') return response.writeHead(405).end();
    let text = '';
    for await (const piece of request.setEncoding('utf8')) text += piece;
    const { id, method, params } = JSON.parse(text);
    if (id === undefined) return response.writeHead(202).end();
    const answer = this.#answer(method, params);
    if (method === 'tools/call') await this.counter;
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ jsonrpc: '2.0', id, ...answer }));
  }

  #answer(method, params) {
    if (method === 'initialize') {
      const serverInfo = { name: 'post office', version: '1.0.0' };
      return { result: { protocolVersion: '2025-11-25', capabilities: { tools: {} }, serverInfo } };
    }
    if (method === 'tools/list') return { result: { tools: [TOOL] } };
    if (method === 'tools/call') {
      this.letters.push(params.arguments);
      for (const resolve of this.#looking.splice(0)) resolve();
      return { result: { content: [{ type: 'text', text: `to ${params.arguments.to}` }] } };
    }
    return { error: { code: -32601, message: 'no such method' } };
  }

  /** Waits until a letter has come. */
  taken() {
    return this.letters.length > 0 ? Promise.resolve() : new Promise((resolve) => this.#looking.push(resolve));
  }

  close() {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}
