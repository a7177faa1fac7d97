// Markdown from agents is not trusted.

import { describe, expect, it } from 'vitest';
import { patch, render } from './markdown';

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
