// The HTTP endpoint of a language model whose answers the test gives piece by piece, when it wants.

import { once } from 'node:events';
import { createServer } from 'node:http';

class Call {
  constructor(body, response) {
    this.body = body;
    this.response = response;
  }

  #chunk(delta, finish = null) {
    const chunk = { id: 'c', object: 'chat.completion.chunk', choices: [{ index: 0, delta, finish_reason: finish }] };
    this.response.write(`data: ${JSON.stringify(chunk)}\n\n`);
  }

  /** Whether these words stand in what the model is asked. */
  asks(words) {
    return JSON.stringify(this.body).includes(words);
  }

  say(text) {
    this.#chunk({ content: text });
  }

  #end(finish) {
    this.#chunk({}, finish);
    // About as many as a real one counts: the server reckons by it.
    const usage = { prompt_tokens: Math.ceil(JSON.stringify(this.body).length / 4), completion_tokens: 7 };
    this.response.write(`data: ${JSON.stringify({ id: 'c', object: 'chat.completion.chunk', choices: [], usage })}\n\n`);
    this.response.end('data: [DONE]\n\n');
  }

  end() {
    this.#end('stop');
  }

  /** Asks for tool calls in place of an answer, each a name and its arguments. */
  callTools(...calls) {
    const asked = calls.map(([name, args], index) => ({ index, id: `call_${index}`, type: 'function', function: { name, arguments: JSON.stringify(args) } }));
    this.#chunk({ tool_calls: asked });
    this.#end('tool_calls');
  }

  callTool(name, args) {
    this.callTools([name, args]);
  }

  /** Waits until the one who asked has gone away. */
  async left() {
    if (!this.response.closed) await once(this.response, 'close');
  }
}

export class Model {
  #server;
  #calls = [];
  #waiting = [];

  static async start() {
    const model = new Model();
    model.#server = createServer((request, response) => void model.#take(request, response));
    model.#server.listen(0, '127.0.0.1');
    await once(model.#server, 'listening');
    return model;
  }

  /** What the server is to be told so that its agents use this model. */
  get settings() {
    return {
      NETRA__MODELS__PROVIDERS__SCRIPTED__BASE_URL: `http://127.0.0.1:${this.#server.address().port}/v1`,
      NETRA__MODELS__DEFAULT: 'scripted/small',
    };
  }

  async #take(request, response) {
    let text = '';
    for await (const piece of request.setEncoding('utf8')) text += piece;
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const call = new Call(JSON.parse(text), response);
    const first = this.#waiting.shift();
    if (first) first(call);
    else this.#calls.push(call);
  }

  /** The next question to the model; waits for it. */
  next() {
    const call = this.#calls.shift();
    return call ? Promise.resolve(call) : new Promise((resolve) => this.#waiting.push(resolve));
  }

  close() {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}
