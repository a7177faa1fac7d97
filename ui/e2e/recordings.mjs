// Whole runs of the real server, of every kind that a reader of events meets: what the page's folds are tested on.
// `npm run record` writes them into src/state/golden; golden.test.mjs holds those against what the server sends now.

import { readFileSync } from 'node:fs';
import { Program } from './program.mjs';

const LOG = new URL('../../samples/synthetic-llm-log.csv', import.meta.url).pathname;
const AGENTS = new URL('./agents', import.meta.url).pathname;
const DESK = new URL('./desk', import.meta.url).pathname;

/** A server with one user, who asks by a program; with a model and a post office where they are wanted. */
async function scene(stage, { model = false, office = false, agents, settings } = {}) {
  const scene = { model: model ? await stage.model() : undefined, office: office ? await stage.postOffice() : undefined };
  const args = agents ? ['--agents', agents] : [];
  scene.server = await stage.server({ users: ['ada'], model: scene.model, config: scene.office?.config, args, settings });
  scene.ada = await Program.signIn(scene.server, 'ada');
  return scene;
}

async function echo(stage) {
  const { ada } = await scene(stage);
  return (await ada.ask('echo', 'good morning')).ended();
}

async function optimizer(stage) {
  const { ada } = await scene(stage);
  const file = await ada.upload('synthetic-llm-log.csv', readFileSync(LOG));
  return (await ada.ask('optimizer', 'Cut the cost by 30 %', { files: [file] })).ended();
}

/** Tools side by side, two sub-agents at once, a conversation that is cut to fit, and a result by a schema. */
async function supervisor(stage) {
  const { ada, model } = await scene(stage, { model: true, agents: DESK });
  await ada.upload('long.csv', 'a,b\n'.repeat(1_500));
  const run = await ada.ask('supervisor', 'Which figures, and by which rules?');
  (await model.next()).callTools(['time_now', {}], ['read_file', { file: 'long.csv' }], ['recall', {}]);
  (await model.next()).callTools(['agent_numbers', { text: 'the figures' }], ['agent_rules', { text: 'the rules' }]);
  const calls = [await model.next(), await model.next()];
  const [numbers, rules] = calls[0].asks('You find figures.') ? calls : calls.reverse();
  rules.callTool('time_now', {});
  numbers.callTool('time_now', {});
  for (const call of [await model.next(), await model.next()]) {
    call.say(call.asks('You find figures.') ? 'Forty-two.' : 'Round up.');
    call.end();
  }
  (await model.next()).callTool('final_answer', { text: 'Forty-two, rounded up.', figures: [{ name: 'answer', value: 42 }] });
  return run.ended();
}

async function handoff(stage) {
  const { ada, model } = await scene(stage, { model: true, agents: DESK });
  const run = await ada.ask('front-desk', 'My parcel is broken.');
  (await model.next()).callTool('handoff_complaints', { message: 'a broken parcel' });
  const call = await model.next();
  call.say('I am sorry ');
  await run.type('message_delta');
  call.say('about your parcel.');
  call.end();
  return run.ended();
}

async function approved(stage) {
  const { ada } = await scene(stage, { office: true, agents: AGENTS });
  const run = await ada.ask('mailer', 'Dear Ada');
  const { data } = await run.type('approval_requested');
  await run.type('run_waiting');
  await ada.post(`/api/approvals/${data.approval_id}`, { decision: 'approve', arguments: { to: 'bob@example.com', text: 'Dear Bob' } });
  return run.ended();
}

async function denied(stage) {
  const { ada } = await scene(stage, { office: true, agents: AGENTS });
  const run = await ada.ask('mailer', 'Dear Eve');
  const { data } = await run.type('approval_requested');
  await run.type('run_waiting');
  await ada.post(`/api/approvals/${data.approval_id}`, { decision: 'deny', note: 'not to her' });
  return run.ended();
}

/** Waits for the run before it, is written half, and stopped. */
async function stopped(stage) {
  const { ada, model } = await scene(stage, { model: true });
  const first = await ada.ask('assistant', 'first');
  const call = await model.next();
  const second = await ada.ask('assistant', 'second', { thread: first.run.thread_id });
  await second.type('run_queued');
  call.say('done');
  call.end();
  (await model.next()).say('Once upon a time');
  await second.type('message_delta');
  await ada.post(`/api/runs/${second.run.id}/cancel`, {});
  return second.ended();
}

async function failed(stage) {
  const { ada } = await scene(stage, { agents: AGENTS });
  return (await ada.ask('clumsy', 'how many?')).ended();
}

/** Nobody answers, and its time runs out; not before that was said. */
async function late(stage) {
  const { ada } = await scene(stage, { model: true });
  return (await ada.ask('assistant', 'Is anybody there?', { timeout_ms: 2_000 })).ended();
}

/** The server falls while a letter is on its way: whether it was sent nobody knows, and a person is asked. */
async function crashed(stage) {
  const { ada, server, office } = await scene(stage, { office: true, agents: AGENTS });
  const run = await ada.ask('mailer', 'Dear Ada');
  const { data } = await run.type('approval_requested');
  await run.type('run_waiting');
  office.counter = new Promise(() => undefined);
  await ada.post(`/api/approvals/${data.approval_id}`, { decision: 'approve' });
  await office.taken();
  await run.type('tool_executing');
  await server.end('SIGKILL');
  office.counter = Promise.resolve();
  await server.restart();
  run.read().catch(() => undefined);
  const again = await run.next((event) => event.type === 'approval_requested' && event.data.approval_id !== data.approval_id);
  await ada.post(`/api/approvals/${again.data.approval_id}`, { decision: 'approve' });
  return run.ended();
}

export const RECORDINGS = { echo, optimizer, supervisor, handoff, approved, denied, stopped, failed, late, crashed };
