// The folds over what a real server has sent: whole runs, recorded by `npm run record` in `golden/`.

import { describe, expect, it } from 'vitest';
import type { WireEvent } from '../../client';
import { gist, kindOf } from './eventlist';
import { answers, applyEvent, newRun, type RunState } from './reducer';
import { reportOf } from './result';
import { timelineOf } from './timeline';

const files = import.meta.glob<string>('./golden/*.jsonl', { query: '?raw', import: 'default', eager: true });

function recorded(name: string): WireEvent[] {
  const text = files[`./golden/${name}.jsonl`] ?? '';
  return text.trim().split('\n').map((line) => JSON.parse(line) as WireEvent);
}

function folded(events: WireEvent[]): RunState {
  const first = events[0] as WireEvent;
  const run = newRun(first.run_id, first.thread_id, '', first.ts);
  for (const event of events) applyEvent(run, event);
  return run;
}

const NAMES = ['echo', 'optimizer'];

describe.each(NAMES)('the recorded run of %s', (name) => {
  const events = recorded(name);
  const run = folded(events);

  it('is understood to its last event', () => {
    expect(run).toMatchObject({ agent: name, status: 'completed', skipped: 0, lastSeq: events.at(-1)?.seq });
    expect(run.usage?.tool_calls).toBe(Object.keys(run.tools).length);
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

it('puts the optimizer’s team below the optimizer, in the order of their work', () => {
  const run = folded(recorded('optimizer'));
  expect(run.roots.map((id) => run.agents[id]?.name)).toEqual(['optimizer']);
  const team = run.agents[run.roots[0] ?? '']?.items.flatMap((item) => (item.kind === 'agent' ? run.agents[item.id]?.name : []));
  expect(team).toEqual(['optimizer-triage', 'optimizer-data', 'optimizer-optimization', 'optimizer-actions', 'optimizer-reporting']);
  expect(reportOf(run.result)?.markdown).toContain('#');
  expect(run.artifacts.length).toBeGreaterThan(0);
});

it('joins the echo’s words', () => {
  expect(answers(folded(recorded('echo'))).map((message) => message.text)).toEqual(['good morning']);
});
