// A stand-in for the server, to look at the page while working on it. All its answers are made up.
// It speaks the part of the public contract that the page uses, keeps all in memory, and serves ui/dist
// with the real content security policy. Questions steer it: "fail", "deny", "slow", "echo" (see script.mjs).

import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { extname, join, normalize } from 'node:path';
import { WebSocketServer } from 'ws';
import { agents, play } from './script.mjs';

const port = Number(process.env.PORT ?? 8080);
const dist = new URL('../dist/', import.meta.url).pathname;
const policy =
  "default-src 'self'; img-src 'self' blob: data:; style-src 'self'; script-src 'self'; connect-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'";
const types = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };

let counter = 0;
const id = (prefix) => `${prefix}_${String(++counter).padStart(10, '0')}`;
const epoch = id('epo');
const stamp = () => new Date().toISOString().replace('Z', '000Z');
const state = { signedIn: process.env.MOCK_SIGNED_IN !== 'no', threads: [], messages: [], runs: [], files: [], log: [], tickets: new Set() };
const sockets = new Set();
const streams = new Set();
const user = { id: id('usr'), name: 'local', role: 'user', plan: 'free', disabled: false, created_at: stamp(), limits: {} };

class Refusal extends Error {
  constructor(status, code, message) {
    super(message);
    Object.assign(this, { status, code });
  }
}

// ---- log and delivery --------------------------------------------------------

function emit(run, type, data, agent, step) {
  const event = { type, seq: state.log.length + 1, event_id: id('evt'), ts: stamp(), thread_id: run.thread_id, run_id: run.id };
  if (agent) Object.assign(event, { agent, step });
  event.data = data;
  state.log.push(event);
  for (const socket of sockets) socket.deliver(event);
  for (const stream of streams) if (stream.run === run.id) stream.send(event);
}

function attach(socket) {
  let last;
  const tell = (frame) => socket.send(JSON.stringify(frame));
  const entry = {
    deliver(event) {
      if (last === undefined) return;
      tell({ ...event, prev: last });
      last = event.seq;
    },
    cut: () => socket.terminate(),
  };
  sockets.add(entry);
  socket.on('close', () => sockets.delete(entry));
  tell({ type: 'connection_ready', connection_id: id('con'), user_id: user.id, protocol: 'netra.v1', server_version: 'mock', heartbeat_interval_ms: 30000, epoch, latest_seq: state.log.length });
  socket.on('message', (text) => {
    const frame = JSON.parse(text);
    if (frame.type === 'subscribe') {
      const after = frame.after === 'now' ? state.log.length : frame.after;
      if ((frame.epoch && frame.epoch !== epoch) || after > state.log.length) {
        const details = { epoch, oldest_seq: 1, latest_seq: state.log.length };
        return tell({ type: 'error', id: frame.id, error: { code: 'cursor_expired', message: 'The log cannot be resumed there.', details } });
      }
      tell({ type: 'ack', id: frame.id, epoch, after, latest_seq: state.log.length });
      last = after;
      for (const event of state.log.slice(after)) entry.deliver(event);
      tell({ type: 'position', seq: state.log.length });
    } else if (frame.type === 'ping') tell({ type: 'pong', id: frame.id });
    else if (frame.type !== 'delivered') tell({ type: 'ack', id: frame.id });
  });
}

// ---- runs ----------------------------------------------------------------------

function start(body, threadId) {
  const unknown = Object.keys(body).filter((key) => !['agent', 'input', 'files'].includes(key));
  if (unknown.length > 0) throw new Refusal(400, 'unknown_field', unknown.join());
  let thread = state.threads.find((one) => one.id === threadId);
  if (threadId && !thread) throw new Refusal(404, 'not_found', 'Not found.');
  if (!thread) {
    thread = { id: id('thr'), title: body.input.slice(0, 60), metadata: {}, created_at: stamp(), updated_at: stamp() };
    state.threads.push(thread);
  }
  const run = { id: id('run'), thread_id: thread.id, agent: body.agent, status: 'queued', attempt: 1, created_at: stamp(), usage: {}, metadata: {} };
  run.run_id = run.id;
  run.body = body;
  state.runs.push(run);
  const files = (body.files ?? []).map((file) => ({ type: 'file', file_id: file }));
  const question = { id: id('msg'), thread_id: thread.id, run_id: run.id, role: 'user', content: [{ type: 'text', text: body.input }, ...files], complete: true, created_at: stamp() };
  state.messages.push(question);
  thread.active_run_id = run.id;
  thread.updated_at = stamp();
  const tell = (type, data, agent, step) => {
    if (type === 'run_started') run.started_at = stamp();
    if (type === 'message_completed' && agent === run.agent) {
      state.messages.push({ id: data.message_id, thread_id: thread.id, run_id: run.id, role: 'assistant', agent, content: data.content, complete: !data.incomplete, created_at: stamp() });
    }
    if (/^run_(completed|failed|cancelled|timed_out)$/.test(type)) {
      Object.assign(run, { status: type.slice(4), ended_at: stamp(), result: data.result, error: data.error, usage: data.usage });
      delete thread.active_run_id;
      thread.updated_at = stamp();
    } else if (type === 'run_started') run.status = 'running';
    emit(run, type, data, agent, step);
  };
  run.stop = new AbortController();
  void play({ run, body, tell, id, store: (name, media_type, bytes) => store(name, media_type, Buffer.from(bytes), run.id), signal: run.stop.signal, question });
  return run;
}

function store(name, media_type, bytes, run_id) {
  const file = { id: id('fil'), name, media_type, bytes: bytes.length, sha256: '', run_id, created_at: stamp(), blob: bytes };
  state.files.push(file);
  return file;
}

const shown = ({ body, stop, blob, ...rest }) => rest;
const asOf = () => ({ epoch, seq: state.log.length });
const page = (items, extra = {}) => ({ items: items.map(shown), next_cursor: null, ...extra });
const find = (list, wanted) => {
  const found = list.find((one) => one.id === wanted);
  if (!found) throw new Refusal(404, 'not_found', 'Not found.');
  return found;
};
const login = () => ({ access_token: 'mock', refresh_token: 'mock', expires_in_ms: 900000, user });

const routes = [
  ['POST', /^\/api\/auth\/refresh$/, () => {
    if (!state.signedIn) throw new Refusal(401, 'unauthenticated', 'Sign in first.');
    return login();
  }],
  ['POST', /^\/api\/auth\/(?:login|setup)$/, ({ body }) => {
    if (body.password === 'wrong') throw new Refusal(401, 'unauthenticated', 'Name or password is wrong.');
    state.signedIn = true;
    user.name = body.name;
    return login();
  }],
  ['POST', /^\/api\/auth\/logout$/, () => ((state.signedIn = false), null)],
  ['POST', /^\/api\/auth\/ws-ticket$/, () => {
    const ticket = id('tck');
    state.tickets.add(ticket);
    return { ticket, expires_in_ms: 30000 };
  }],
  ['GET', /^\/api\/agents$/, () => page(agents)],
  ['GET', /^\/api\/threads$/, () => page([...state.threads].reverse())],
  ['GET', /^\/api\/threads\/(\w+)$/, ({ args }) => ({ ...find(state.threads, args[0]), as_of: asOf() })],
  ['PATCH', /^\/api\/threads\/(\w+)$/, ({ args, body }) => Object.assign(find(state.threads, args[0]), body)],
  ['DELETE', /^\/api\/threads\/(\w+)$/, ({ args }) => {
    const thread = find(state.threads, args[0]);
    if (thread.active_run_id) throw new Refusal(409, 'thread_busy', 'A run is active.');
    state.threads.splice(state.threads.indexOf(thread), 1);
    return null;
  }],
  ['GET', /^\/api\/threads\/(\w+)\/messages$/, ({ args }) => page(state.messages.filter((one) => one.thread_id === args[0]), { as_of: asOf() })],
  ['POST', /^\/api\/threads\/(\w+)\/runs$/, ({ args, body }) => [202, shown(start(body, args[0]))]],
  ['POST', /^\/api\/runs$/, ({ body }) => [202, shown(start(body))]],
  ['GET', /^\/api\/runs$/, () => page([...state.runs].reverse())],
  ['GET', /^\/api\/runs\/(\w+)$/, ({ args }) => ({ ...shown(find(state.runs, args[0])), as_of: asOf() })],
  ['POST', /^\/api\/runs\/(\w+)\/cancel$/, ({ args }) => [202, (find(state.runs, args[0]).stop.abort(), {})]],
  ['POST', /^\/api\/runs\/(\w+)\/retry$/, ({ args }) => {
    const old = find(state.runs, args[0]);
    return [202, shown(start(old.body, old.thread_id))];
  }],
  ['GET', /^\/api\/files\/(\w+)$/, ({ args }) => shown(find(state.files, args[0]))],
  // Not part of the contract: cuts every socket, to see the page come back.
  ['POST', /^\/mock\/cut$/, () => (sockets.forEach((one) => one.cut()), null)],
];

async function bodyOf(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts);
}

async function answer(request, response) {
  const url = new URL(request.url, 'http://mock');
  const events = /^\/api\/runs\/(\w+)\/events$/.exec(url.pathname);
  if (events) return stream(events[1], response);
  const content = /^\/api\/files\/(\w+)\/content$/.exec(url.pathname);
  if (content) {
    const file = find(state.files, content[1]);
    response.writeHead(200, { 'Content-Type': file.media_type, 'X-Content-Type-Options': 'nosniff', 'Content-Security-Policy': 'sandbox' });
    return response.end(file.blob);
  }
  if (request.method === 'POST' && url.pathname === '/api/files') {
    const file = store(url.searchParams.get('name'), request.headers['content-type'], await bodyOf(request));
    return json(response, 201, shown(file));
  }
  for (const [method, path, act] of routes) {
    const match = method === request.method && path.exec(url.pathname);
    if (!match) continue;
    const raw = await bodyOf(request);
    const result = act({ args: match.slice(1), body: raw.length > 0 ? JSON.parse(raw) : {} });
    return Array.isArray(result) ? json(response, ...result) : json(response, result === null ? 204 : 200, result);
  }
  if (url.pathname.startsWith('/api/')) throw new Refusal(404, 'not_found', 'Not found.');
  return sendPage(url.pathname, response);
}

function stream(run, response) {
  response.writeHead(200, { 'Content-Type': 'text/event-stream' });
  const send = (event) => {
    response.write(`id: ${epoch}:${event.seq}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`);
    if (/^run_(completed|failed|cancelled|timed_out)$/.test(event.type)) response.end();
  };
  const entry = { run, send };
  response.on('close', () => streams.delete(entry));
  for (const event of state.log.filter((one) => one.run_id === run)) send(event);
  if (!response.writableEnded) streams.add(entry);
}

function json(response, status, value) {
  response.writeHead(status, { 'Content-Type': 'application/json' });
  response.end(value === null ? '' : JSON.stringify(value));
}

async function sendPage(path, response) {
  const wanted = normalize(join(dist, path));
  const file = wanted.startsWith(dist) && extname(wanted) ? wanted : join(dist, 'index.html');
  const bytes = await readFile(file).catch(() => readFile(join(dist, 'index.html')));
  response.writeHead(200, { 'Content-Type': types[extname(file)] ?? 'text/html', 'Content-Security-Policy': policy });
  response.end(bytes);
}

const server = createServer((request, response) => {
  answer(request, response).catch((error) => {
    const refusal = error instanceof Refusal ? error : new Refusal(500, 'internal', String(error));
    json(response, refusal.status, { error: { code: refusal.code, message: refusal.message, request_id: id('req'), docs: '' } });
  });
});
const upgrade = new WebSocketServer({ noServer: true });
server.on('upgrade', (request, socket, head) => {
  const ticket = new URL(request.url, 'http://mock').searchParams.get('ticket');
  if (!state.tickets.delete(ticket)) return socket.end('HTTP/1.1 401 Unauthorized\r\n\r\n');
  upgrade.handleUpgrade(request, socket, head, attach);
});
server.listen(port, '127.0.0.1', () => console.log(`ready http://127.0.0.1:${port}`));
