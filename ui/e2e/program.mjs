// A program that asks the server over REST and follows its runs as server-sent events, as clients get them.

import { PASSWORD } from './server.mjs';

const TERMINAL = /^run_(completed|failed|cancelled|timed_out)$/;

/** One run, and all that has come of it. */
class Followed {
  events = [];
  #waiting = [];
  #program;
  #at = '';

  constructor(program, run) {
    this.#program = program;
    this.run = run;
  }

  /** Reads on from where it was until the run has ended or the server is away. */
  async read() {
    const headers = { ...this.#program.headers, ...(this.#at ? { 'last-event-id': this.#at } : {}) };
    const answer = await fetch(`${this.#program.url}/api/runs/${this.run.id}/events`, { headers });
    if (!answer.ok) throw new Error(`the events of ${this.run.id} answer with ${answer.status}`);
    let rest = '';
    const decoder = new TextDecoder();
    for await (const piece of answer.body) {
      const blocks = (rest + decoder.decode(piece, { stream: true })).split('\n\n');
      rest = blocks.pop();
      for (const block of blocks) this.#take(block);
    }
  }

  #take(block) {
    const field = (name) => block.split('\n').find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
    this.#at = field('id') ?? this.#at;
    const data = field('data');
    if (!data) return;
    const event = JSON.parse(data);
    this.events.push(event);
    this.#waiting = this.#waiting.filter(({ wanted, resolve }) => !wanted(event) || resolve(event));
  }

  /** The first event that fits, also one that has come. */
  next(wanted) {
    const known = this.events.find(wanted);
    return known ? Promise.resolve(known) : new Promise((resolve) => this.#waiting.push({ wanted, resolve }));
  }

  type(type) {
    return this.next((event) => event.type === type);
  }

  async ended() {
    await this.next((event) => TERMINAL.test(event.type));
    return this.events;
  }
}

export class Program {
  headers = {};
  #server;

  static async signIn(server, name) {
    const program = new Program();
    program.#server = server;
    const { access_token: token } = await program.post('/api/auth/login', { name, password: PASSWORD });
    program.headers = { authorization: `Bearer ${token}` };
    return program;
  }

  get url() {
    return this.#server.url;
  }

  async post(path, body, type = 'application/json') {
    const text = type === 'application/json' ? JSON.stringify(body) : body;
    const answer = await fetch(this.url + path, { method: 'POST', headers: { ...this.headers, 'content-type': type }, body: text });
    if (!answer.ok) throw new Error(`${path} answers with ${answer.status}: ${await answer.text()}`);
    return answer.json();
  }

  async upload(name, bytes) {
    return (await this.post(`/api/files?name=${encodeURIComponent(name)}`, bytes, 'text/csv')).id;
  }

  /** Starts a run and follows it. */
  async ask(agent, input, { thread, ...more } = {}) {
    const run = await this.post(thread ? `/api/threads/${thread}/runs` : '/api/runs', { agent, input, ...more });
    const followed = new Followed(this, run);
    // Whoever lets the server fall reads on after it is back.
    followed.read().catch(() => undefined);
    return followed;
  }
}
