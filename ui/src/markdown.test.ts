// Markdown from agents is not trusted.

import { describe, expect, it } from 'vitest';
import { drawFormulas, patch, render, segments } from './markdown';

function html(text: string, resolve?: (reference: string) => string | undefined): string {
  const box = document.createElement('div');
  box.append(render(text, resolve));
  return box.innerHTML;
}

describe('what is kept', () => {
  it('tables, code and lists', () => {
    const out = html('| a | b |\n|---|--:|\n| 1 | 2 |\n\n```sql\nselect 1\n```\n\n- x');
    expect(out).toContain('class="table-frame"');
    expect(out).toContain('align="right"');
    expect(out).toContain('<code class="language-sql">select 1');
    expect(out).toContain('<li>x</li>');
  });

  it('pictures and links of known files, without a source of their own', () => {
    const known = (reference: string): string | undefined => (reference === 'fil_1' || reference === 'cost.svg' ? 'fil_1' : undefined);
    expect(html('![c](/api/files/fil_1/content)', known)).toContain('<img alt="c" data-file="fil_1">');
    expect(html('![c](./cost.svg)', known)).toContain('data-file="fil_1"');
    expect(html('[get](cost.svg)', known)).toContain('data-file="fil_1"');
  });
});

describe('what is taken out', () => {
  it.each([
    ['<script>alert(1)</script>', /script|alert/],
    ['<img src=x onerror="alert(1)">', /onerror|<img/],
    ['[x](javascript:alert(1))', /javascript/],
    ['<a href="data:text/html,x">x</a>', /data:/],
    ['<p style="position:fixed">x</p>', /style/],
    ['<iframe src="/"></iframe><form><button>x</button></form>', /iframe|form|button/],
    ['<svg><a href="javascript:alert(1)">x</a></svg>', /svg|javascript/],
  ])('%s', (text, forbidden) => {
    expect(html(text)).not.toMatch(forbidden);
  });

  it('pictures from outside become links that are not loaded', () => {
    const out = html('![p](https://example.org/p.png)');
    expect(out).not.toContain('<img');
    expect(out).toContain('href="https://example.org/p.png"');
    expect(out).toContain('rel="noopener noreferrer nofollow"');
  });
});

it('a growing text keeps the blocks that have not changed', () => {
  const box = document.createElement('div');
  patch(box, render('one\n\ntwo'));
  const first = box.firstElementChild;
  patch(box, render('one\n\ntwo and more\n\nthree'));
  expect(box.firstElementChild).toBe(first);
  expect(box.textContent?.replace(/\s+/g, ' ').trim()).toBe('one two and more three');
});

it('keeps a percent sign with its number, and leaves code as it is', () => {
  const shown = html('saves 42.1 % by `1 %`');
  expect(shown).toContain('42.1&nbsp;%');
  expect(shown).toContain('<code>1 %</code>');
});

describe('formulas', () => {
  const formulas = (text: string): string[] => {
    const box = document.createElement('div');
    box.append(render(text));
    return [...box.querySelectorAll('code.math')].map((code) => `${code.className}: ${code.textContent}`);
  };

  it('are found in a line and in a block', () => {
    expect(formulas('so $a < b$ and \\(c\\)')).toEqual(['math: a < b', 'math: c']);
    expect(formulas('$$\n\\frac{1}{2}\n$$\n')).toEqual(['math display: \\frac{1}{2}']);
  });

  it.each(['it costs $5 or $6', '$5-$6', 'a $ b $ c', '`$x$`', '$ 5$'])('are not made of money or code: %s', (text) => {
    expect(formulas(text)).toEqual([]);
  });

  it('stay as they were written where they cannot be drawn', () => {
    const box = document.createElement('div');
    box.append(render('$a$ and $b$'));
    drawFormulas(box, (tex, into) => {
      if (tex === 'b') throw new Error('no');
      into.textContent = `drawn ${tex}`;
    });
    expect(box.textContent?.trim()).toBe('drawn a and b');
    expect(box.querySelector('.formula-source')?.textContent).toBe('b');
  });
});

describe('a long text', () => {
  const paragraph = `${'word '.repeat(60)}\n\n`;

  it('is cut between blocks, and nothing of it is lost', () => {
    const text = paragraph.repeat(40);
    const parts = segments(text);
    expect(parts.length).toBeGreaterThan(5);
    expect(parts.join('')).toBe(text);
  });

  it.each([
    ['code', `\`\`\`\n${paragraph.repeat(20)}\`\`\`\n\n`],
    ['a list', `- a\n\n  ${paragraph.trim()}\n\n`.repeat(20)],
    ['a formula', `$$\n${paragraph.repeat(20)}$$\n\n`],
  ])('is not cut within %s', (_, block) => {
    const text = paragraph.repeat(10) + block + paragraph.repeat(10);
    const joined = document.createElement('div');
    for (const part of segments(text)) joined.append(render(part));
    const whole = document.createElement('div');
    whole.append(render(text));
    expect(joined.innerHTML.replace(/\s+/g, ' ')).toBe(whole.innerHTML.replace(/\s+/g, ' '));
  });

  it('only ever changes its last part while it grows', () => {
    const text = paragraph.repeat(40);
    const before = segments(text.slice(0, 9_000));
    expect(segments(text).slice(0, before.length - 1)).toEqual(before.slice(0, -1));
  });
});
