// Places in the address, the palette, usage by day, metrics over time, and whether the page is the newest.

import { describe, expect, it } from 'vitest';
import { matches, type Command } from './commands';
import { differs } from './edition';
import type { Json } from '../../client';
import { historyOf, labelled, rate, sampleOf } from './metrics';
import { follow, linkOf, pathOf, placeOf } from './route.svelte';
import { everyDay, valueOf } from './usage';

describe('places', () => {
  it.each(['/', '/threads/thr_1', '/runs/run_1', '/account/usage', '/admin/isolation'])('%s is where it says', (path) => {
    expect(pathOf(placeOf(path))).toBe(path);
  });

  it('are never nowhere', () => {
    expect(pathOf(placeOf('/account'))).toBe('/account/keys');
    expect(pathOf(placeOf('/admin/nothing'))).toBe('/admin/users');
    expect(pathOf(placeOf('/threads/run_1'))).toBe('/');
  });
});

it('a click on a link stays in the page, and one with a key held is the browser’s', () => {
  const click = (held: MouseEventInit): [boolean, boolean] => {
    let went = false;
    const event = new MouseEvent('click', { ...held, cancelable: true });
    follow(event, () => (went = true));
    return [went, event.defaultPrevented];
  };
  expect(click({})).toEqual([true, true]);
  for (const held of ['ctrlKey', 'metaKey', 'shiftKey']) expect(click({ [held]: true })).toEqual([false, false]);
});

it('a one-time link carries its token where no server sees it', () => {
  expect(linkOf('/setup', '#token=a')).toEqual({ kind: 'setup', token: 'a' });
  expect(linkOf('/reset', '#token=a')).toEqual({ kind: 'reset', token: 'a' });
  expect(linkOf('/register', '#invite=a')).toEqual({ kind: 'register', token: 'a' });
  expect(linkOf('/reset', '?token=a')).toBeUndefined();
  expect(linkOf('/', '#setup=a')).toBeUndefined();
  expect(linkOf('/register', '')).toEqual({ kind: 'register', token: '' });
  expect(linkOf('/reset', '')).toBeUndefined();
  expect(linkOf('/', '')).toBeUndefined();
});

it('the palette finds all words in any order, beginnings first', () => {
  const all = ['Attach a file', 'Account: Your data', 'Conversation about files'].map((label): Command => ({ id: label, group: 'do', label, icon: 'go', act: () => undefined }));
  expect(matches(all, 'file').map(({ id }) => id)).toEqual(['Attach a file', 'Conversation about files']);
  expect(matches(all, 'data acc').map(({ id }) => id)).toEqual(['Account: Your data']);
  expect(matches(all, ' ')).toEqual(all);
  expect(matches(all, 'xyz')).toEqual([]);
});

describe('usage', () => {
  const day = (day: string, runs: number) => ({ day, runs, input_tokens: 1, output_tokens: 2, model_calls: 3, tool_calls: 4, cost_usd: null });

  it('has every day from the first to the last, at least two weeks', () => {
    const days = everyDay([day('2026-11-26', 2), day('2026-11-24', 1)]);
    expect(days).toHaveLength(14);
    expect(days.slice(-3).map(({ runs }) => runs)).toEqual([1, 0, 2]);
    expect(everyDay([day('2026-11-26', 1), day('2026-09-26', 1)])).toHaveLength(62);
    expect(everyDay([])).toEqual([]);
  });

  it('adds tokens, and takes an unknown cost as none', () => {
    expect(valueOf(day('2026-11-26', 1), 'tokens')).toBe(3);
    expect(valueOf(day('2026-11-26', 1), 'cost')).toBe(0);
  });
});

describe('metrics', () => {
  const said = (value: number): { [key: string]: Json } => ({ requests_total: { samples: [{ name: 'requests_total', labels: { route: 'a' }, value }, { name: 'requests_total', labels: { route: 'b' }, value: 1 }] } });

  it('are sums over labels, and of a histogram its count', () => {
    const seconds: Json = { samples: [{ name: 'seconds_bucket', labels: { le: '1' }, value: 9 }, { name: 'seconds_count', labels: {}, value: 4 }, { name: 'seconds_sum', labels: {}, value: 2 }] };
    expect(sampleOf({ ...said(2), seconds }, 5)).toEqual({ at: 5, values: { requests_total: 3, seconds: 4 } });
    expect(labelled(said(2), 'requests_total', 'route', 'b')).toBe(1);
  });

  it('rise by so much in a second, also over a restart', () => {
    const samples = [sampleOf(said(10), 0), sampleOf(said(20), 5_000), sampleOf(said(3), 10_000)];
    expect(rate(samples, 'requests_total').map(({ value }) => value)).toEqual([2, 0.8]);
  });

  it('come from the server’s history where there is one', () => {
    expect(historyOf({ interval_ms: 1, points: [{ at: '2026-11-26T00:00:00Z', values: { a: 1 } }] })).toEqual([{ at: Date.parse('2026-11-26T00:00:00Z'), values: { a: 1 } }]);
  });
});

describe('the page', () => {
  const page = (script: string): Document => new DOMParser().parseFromString(`<script type="module" src="${script}"></script>`, 'text/html');

  it('is outdated when the server names another script, and only then', () => {
    expect(differs('<script type="module" src="/assets/index-b.js"></script>', page('/assets/index-a.js'))).toBe(true);
    expect(differs('<script type="module" src="/assets/index-a.js"></script>', page('/assets/index-a.js'))).toBe(false);
    expect(differs('<p>Bad gateway</p>', page('/assets/index-a.js'))).toBe(false);
  });
});
