// Every text of the page stands in this folder: components have none of their own.

import { expect, it } from 'vitest';
import { parse, type AST } from 'svelte/compiler';

const sources = import.meta.glob<string>('../**/*.svelte', { query: '?raw', import: 'default', eager: true });
/** Attributes that are read by people. */
const READ = new Set(['alt', 'aria-description', 'aria-label', 'aria-roledescription', 'label', 'placeholder', 'title']);
const isWord = (text: string): boolean => /\p{L}/u.test(text);

type Node = { type: string; [field: string]: unknown };

/** Words in what a component draws: between its tags, in attributes, and in expressions that are nothing but a text. */
function wordsOf(node: Node, found: string[] = []): string[] {
  if (node.type === 'Text' && isWord(String(node['data']))) found.push(String(node['data']).trim());
  if (node.type === 'ExpressionTag') {
    const { type, value } = node['expression'] as { type: string; value?: unknown };
    if (type === 'Literal' && typeof value === 'string' && isWord(value)) found.push(value);
  }
  if (node.type === 'Attribute' && !READ.has(String(node['name']))) return found;
  for (const [name, field] of Object.entries(node)) {
    if (name === 'expression' || name === 'metadata') continue;
    for (const child of [field].flat()) if (child && typeof child === 'object' && 'type' in child) wordsOf(child as Node, found);
  }
  return found;
}

const drawn = (source: string): Node => (parse(source, { modern: true }) as AST.Root).fragment as unknown as Node;

it('finds words wherever a component may have them', () => {
  const source = '<p class="a" title="b">{c} d {"e f"} {#if g}<i>h</i>{:else}{i.j}{/if} · 1</p><!-- k -->';
  expect(wordsOf(drawn(source))).toEqual(['b', 'd', 'e f', 'h']);
});

it.each(Object.entries(sources))('%s has no words of its own', (_, source) => {
  expect(wordsOf(drawn(source))).toEqual([]);
});
