// The recorded runs on which the page's folds are tested are what the server sends: the same events with the same
// fields, in the same order. `npm run record` records them anew.

import { readFileSync, writeFileSync } from 'node:fs';
import { afterEach, expect, it } from 'vitest';
import { RECORDINGS } from './recordings.mjs';
import { Stage } from './stage.mjs';

const stage = new Stage();
afterEach((test) => stage.clear(test.task));

/** What may come in any number, as time has it. */
const ANY_NUMBER = new Set(['message_delta', 'tool_progress']);
const place = (name) => new URL(`../src/state/golden/${name}.jsonl`, import.meta.url);

/** What an event is, without what is new each time. */
function form({ type, agent, data }) {
  const named = data.tool_name ?? data.reason ?? data.layer ?? data.decision ?? data.error?.code ?? '';
  return `${type} ${agent ?? ''} ${type.startsWith('agent_') ? '' : named} {${Object.keys(data).sort()}}`;
}

/** Agents and calls may be at work at once, so each one's events have an order among themselves only. */
function forms(events) {
  const tools = new Map(events.filter(({ data }) => data.tool_name).map(({ data }) => [data.tool_call_id, data.tool_name]));
  const grouped = {};
  for (const event of events.filter(({ type }) => !ANY_NUMBER.has(type))) {
    const group = `${event.agent ?? 'the run'} ${tools.get(event.data.tool_call_id) ?? ''}`;
    (grouped[group] ??= []).push(form(event));
  }
  return grouped;
}

it.each(Object.keys(RECORDINGS))('the recorded run “%s” is what the server sends', async (name) => {
  const events = await RECORDINGS[name](stage);
  if (process.env.NETRA_RECORD) writeFileSync(place(name), events.map((event) => `${JSON.stringify(event)}\n`).join(''));
  const recorded = readFileSync(place(name), 'utf8').trim().split('\n').map((line) => JSON.parse(line));
  expect(forms(events)).toEqual(forms(recorded));
});
