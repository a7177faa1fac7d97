// The folds over what a real server has sent: whole runs, recorded by `npm run record` in `golden/`.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { WireEvent } from '../../client';
import { gist, kindOf } from './eventlist';
import { answers, applyEvent, newRun, type RunState } from './reducer';
import { isResultAsJson, reportOf } from './result';
import { timelineOf } from './timeline';

const files = import.meta.glob<string>('./golden/*.jsonl', { query: '?raw', import: 'default', eager: true });
const NAMES = Object.keys(files).map((path) => path.slice('./golden/'.length, -'.jsonl'.length));

function recorded(name: string): WireEvent[] {
  const text = files[`./golden/${name}.jsonl`];
  if (text === undefined) throw new Error(`there is no recording of ${name}: npm run record`);
  return text.trim().split('\n').map((line) => JSON.parse(line) as WireEvent);
}

function folded(events: WireEvent[]): RunState {
  const first = events[0] as WireEvent;
  const run = newRun(first.run_id, first.thread_id, '', first.ts);
  for (const event of events) applyEvent(run, event);
  return run;
}

describe.each(NAMES)('the recorded run of %s', (name) => {
  const events = recorded(name);
  const run = folded(events);

  it('is understood to its last event', () => {
    expect(run).toMatchObject({ skipped: 0, lastSeq: events.at(-1)?.seq });
    expect(`run_${run.status}`).toBe(events.at(-1)?.type);
    expect(run.usage?.tool_calls).toBe(Object.values(run.tools).filter((call) => call.state !== 'denied').length);
  });

  it('leaves nothing open, in the tree and in the timeline', () => {
    expect(Object.values(run.agents).filter((agent) => agent.state === 'running')).toEqual([]);
    expect(Object.values(run.tools).filter((tool) => tool.state === 'running')).toEqual([]);
    expect(Object.values(run.messages).filter((message) => !message.complete)).toEqual([]);
    const line = timelineOf(events);
    expect(line.ended).toBe(true);
    expect(line.spans.filter((span) => span.to === undefined)).toEqual([]);
    expect(line.spans.every((span) => span.from >= 0 && (span.to ?? 0) <= line.length)).toBe(true);
  });

  it('comes to the same without the pieces of its messages, which a replay may leave out', () => {
    const whole = events.filter((event) => event.type !== 'message_delta');
    expect(folded(whole)).toEqual(run);
    expect(timelineOf(whole).ended).toBe(true);
  });

  it('comes to the same when it is cut and read again from its start', () => {
    const half = Math.floor(events.length / 2);
    expect(folded([...events.slice(0, half), ...events])).toEqual(run);
  });

  it('has words for each event', () => {
    for (const event of events) {
      expect(kindOf(event)).toMatch(/^(run|agent|message|tool|approval|other)$/);
      expect(typeof gist(event)).toBe('string');
    }
  });
});

interface Catalogue {
  components: { schemas: { EventKind: { oneOf: { properties: { type: { enum: [string] } } }[] } } };
}

function catalogue(): string[] {
  const contract = JSON.parse(readFileSync(join(import.meta.dirname, '../../../openapi/netra.json'), 'utf8')) as Catalogue;
  return contract.components.schemas.EventKind.oneOf.map((kind) => kind.properties.type.enum[0]);
}

/** Whether one of these events, at its place in its run, changes what is shown of it. */
function tells(events: WireEvent[], type: string): boolean {
  const first = events[0] as WireEvent;
  const run = newRun(first.run_id, first.thread_id, '', first.ts);
  return events.some((event) => {
    const before = event.type === type ? structuredClone(run) : undefined;
    applyEvent(run, event);
    return before !== undefined && JSON.stringify({ ...before, lastSeq: 0 }) !== JSON.stringify({ ...run, lastSeq: 0, skipped: before.skipped });
  });
}

it.each(catalogue())('no %s of the contract is passed over: it is recorded, changes what is shown, and has a kind', (type) => {
  const withIt = NAMES.map(recorded).filter((events) => events.some((event) => event.type === type));
  expect(withIt.length, 'recordings that have it').toBeGreaterThan(0);
  expect(withIt.some((events) => tells(events, type))).toBe(true);
  expect(kindOf({ type } as WireEvent)).not.toBe('other');
});

it('puts the optimizer’s team below the optimizer, in the order of their work', () => {
  const run = folded(recorded('optimizer'));
  expect(run.roots.map((id) => run.agents[id]?.name)).toEqual(['optimizer']);
  const team = run.agents[run.roots[0] ?? '']?.items.flatMap((item) => (item.kind === 'agent' ? run.agents[item.id]?.name : []));
  expect(team).toEqual(['triage', 'data-helper', 'data', 'analysis', 'optimization', 'actions', 'reporting', 'explain'].map((name) => `optimizer-${name}`));
  expect(reportOf(run.result)?.markdown).toContain('#');
  expect(run.artifacts.length).toBeGreaterThan(0);
});

it('joins the echo’s words', () => {
  expect(answers(folded(recorded('echo'))).map((message) => message.text)).toEqual(['good morning']);
});

it('puts agents that work at once side by side below the one that called them, each with its own calls', () => {
  const run = folded(recorded('supervisor'));
  const root = run.agents[run.roots[0] ?? ''];
  const calls = root?.items.flatMap((item) => (item.kind === 'tool' ? run.tools[item.id]?.name : []));
  expect(calls?.slice(0, 3).sort()).toEqual(['read_file', 'recall', 'time_now']);
  const helpers = Object.values(run.agents).filter((agent) => agent.parent === root?.id);
  expect(helpers.map((agent) => agent.name).sort()).toEqual(['numbers', 'rules']);
  for (const helper of helpers) {
    expect(helper.items.flatMap((item) => (item.kind === 'tool' ? run.tools[item.id]?.name : []))).toEqual(['time_now']);
  }
});

it('has a result by a schema once, and says that the conversation was cut to fit', () => {
  const run = folded(recorded('supervisor'));
  expect(run.result).toEqual({ text: 'Forty-two, rounded up.', figures: [{ name: 'answer', value: 42 }] });
  expect(answers(run).map(({ text }) => isResultAsJson(text, run.result))).toEqual([true]);
  const thoughts = run.agents[run.roots[0] ?? '']?.items.filter((item) => item.kind === 'thought');
  expect(thoughts?.length).toBeGreaterThan(0);
});

it('takes what an agent says to whom the conversation was handed over as the answer', () => {
  const run = folded(recorded('handoff'));
  expect(answers(run).map(({ agent, text }) => [agent, text])).toEqual([['complaints', 'I am sorry about your parcel.']]);
});

it('shows what a person has changed in a call, and whom they refused', () => {
  const yes = folded(recorded('approved'));
  expect(Object.values(yes.approvals)).toMatchObject([{ decision: 'approve', arguments: { text: 'Dear Ada' } }]);
  expect(Object.values(yes.tools)).toMatchObject([{ state: 'completed', arguments: { to: 'bob@example.com', text: 'Dear Bob' } }]);
  const no = folded(recorded('denied'));
  expect(Object.values(no.tools)).toMatchObject([{ state: 'denied', deniedBy: 'approval', error: { message: 'not to her' } }]);
});

it('keeps what was written when a run is stopped, and why others broke off', () => {
  const stopped = folded(recorded('stopped'));
  expect(stopped.status).toBe('cancelled');
  expect(answers(stopped)).toMatchObject([{ text: 'Once upon a time', incomplete: true }]);
  expect(folded(recorded('failed'))).toMatchObject({ status: 'failed', error: { code: 'agent_failed' } });
  const late = folded(recorded('late'));
  expect(late).toMatchObject({ status: 'timed_out', error: { code: 'deadline_exceeded' } });
  expect(late.warnings.map((warning) => warning.limit)).toEqual(['run_timeout_ms']);
});

it('shows the call of which a crash has taken the outcome, and the one that was made in its place', () => {
  const run = folded(recorded('crashed'));
  expect(run.attempt).toBe(2);
  expect(Object.values(run.tools)).toMatchObject([
    { state: 'failed', error: { code: 'outcome_unknown' } },
    { state: 'completed' },
  ]);
  expect(Object.values(run.approvals).map((approval) => approval.decision)).toEqual(['approve', 'approve']);
});
