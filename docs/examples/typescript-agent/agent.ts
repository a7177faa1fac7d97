// An agent in TypeScript, as an agent of Netra: `node dist/agent.js 8002`.
//
// It says what it does while it does it, a line for each step. Netra closes the connection when the
// run is cancelled, which ends the loop below.

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

interface Turn {
  turn: number;
  input: { text: string };
  files: { id: string; name: string; bytes: number }[];
  results: { id: string; result?: { requests: number }; error?: { message: string } }[];
}

type Call = { type: "tool"; id: string; name: string; arguments: object };

type Step =
  | { type: "think"; message: string; progress?: number }
  | { type: "text"; text: string }
  | { type: "calls"; calls: Call[]; state?: unknown }
  | { type: "result"; result: unknown }
  | { type: "error"; message: string };

async function* turn(asked: Turn): AsyncGenerator<Step> {
  if (asked.files.length === 0) {
    yield { type: "error", message: "attach a log to the question" };
  } else if (asked.turn === 1) {
    yield { type: "think", message: `Reading ${asked.files.length} files` };
    const calls = asked.files.map(({ id, name }): Call => {
      return { type: "tool", id: name, name: "log_profile", arguments: { file: id } };
    });
    yield { type: "calls", calls };
  } else {
    const logs = asked.results.map(({ id, result, error }) => {
      return { name: id, requests: result?.requests ?? null, problem: error?.message ?? null };
    });
    for (const { name, requests, problem } of logs) {
      yield { type: "text", text: `- ${name}: ${problem ?? `${requests} requests`}\n` };
    }
    yield { type: "result", result: { logs } };
  }
}

const server = createServer(async (request, response) => {
  if (request.method !== "POST") return response.writeHead(204).end();
  let body = "";
  for await (const piece of request) body += piece;
  response.writeHead(200, { "content-type": "application/x-ndjson" });
  for await (const step of turn(JSON.parse(body) as Turn)) {
    if (response.destroyed) return;
    response.write(JSON.stringify(step) + "\n");
  }
  response.end();
});

server.listen(Number(process.argv[2]), "127.0.0.1", () => {
  console.log(`ready http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});
