// Markdown to safe nodes: what agents write is never trusted, and nothing outside this server is ever loaded.

import DOMPurify from 'dompurify';
import { Marked, type TokenizerAndRendererExtension, type Tokens } from 'marked';
import { texts } from './texts';

type Formula = Tokens.Generic & { tex: string; display: boolean };

/** A formula comes out as `<code class="math">`; `drawFormulas` makes mathematics of it, where that can be done. */
function formula(name: string, level: 'block' | 'inline', rules: RegExp[], start: RegExp): TokenizerAndRendererExtension {
  return {
    name,
    level,
    start: (source) => start.exec(source)?.index,
    tokenizer(source): Formula | undefined {
      for (const rule of rules) {
        const found = rule.exec(source);
        if (found) return { type: name, raw: found[0], tex: found[1]?.trim() ?? '', display: level === 'block' };
      }
      return undefined;
    },
    renderer: (token) => {
      const { tex, display } = token as Formula;
      return display ? `<p><code class="math display">${escaped(tex)}</code></p>` : `<code class="math">${escaped(tex)}</code>`;
    },
  };
}

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

const marked = new Marked({
  gfm: true,
  breaks: false,
  extensions: [
    formula('formulaBlock', 'block', [/^\$\$([^$]+?)\$\$(?:\n|$)/, /^\\\[([\s\S]+?)\\\](?:\n|$)/], /\$\$|\\\[/),
    // Money is no mathematics: `$5 to $6` has a space before its second sign, `$5-$6` a digit after it.
    formula('formula', 'inline', [/^\$(?![\s$])((?:\\.|[^\\$\n])*?[^\\$\s])\$(?![\d$])/, /^\\\((.+?)\\\)/], /\$|\\\(/),
  ],
});

const ALLOWED_TAGS = [
  'a', 'blockquote', 'br', 'code', 'del', 'em', 'h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'hr', 'img', 'input', 'li', 'ol',
  'p', 'pre', 'strong', 'sub', 'sup', 'table', 'tbody', 'td', 'th', 'thead', 'tr', 'ul',
];
const ALLOWED_ATTR = ['align', 'alt', 'checked', 'class', 'disabled', 'href', 'src', 'start', 'title', 'type'];

/** Finds the file that a link or an image of the text names, by id or by name. */
export type ResolveFile = (reference: string) => string | undefined;

/** Images of known files come back as `<img data-file="fil_…">` without a source: who shows them loads them. */
export function render(text: string, resolve: ResolveFile = () => undefined): DocumentFragment {
  const html = marked.parse(text, { async: false });
  const fragment = DOMPurify.sanitize(html, {
    ALLOWED_TAGS,
    ALLOWED_ATTR,
    ALLOW_DATA_ATTR: false,
    ALLOWED_URI_REGEXP: /^(?:https?:|mailto:|[^a-z]|[a-z+.-]+(?:[^a-z+.\-:]|$))/i,
    RETURN_DOM_FRAGMENT: true,
  });
  for (const image of fragment.querySelectorAll('img')) placeImage(image, resolve);
  for (const link of fragment.querySelectorAll('a')) placeLink(link, resolve);
  keepTogether(fragment);
  for (const table of fragment.querySelectorAll('table')) frameTable(table);
  for (const block of fragment.querySelectorAll('pre')) frameCode(block);
  for (const input of fragment.querySelectorAll('input')) {
    if (input.getAttribute('type') !== 'checkbox') input.remove();
    else input.setAttribute('disabled', '');
  }
  return fragment;
}

function reference(url: string): string {
  let plain = url;
  try {
    plain = decodeURIComponent(url);
  } catch {
    // Not percent-encoded after all.
  }
  return /(fil_[\w-]+)/.exec(plain)?.[1] ?? plain.replace(/^(?:artifact:|attachment:|\.\/)/, '');
}

function placeImage(image: HTMLImageElement, resolve: ResolveFile): void {
  const source = image.getAttribute('src') ?? '';
  const file = resolve(reference(source));
  image.removeAttribute('src');
  if (file) {
    image.dataset['file'] = file;
    return;
  }
  const owner = image.ownerDocument;
  const label = image.getAttribute('alt') || source;
  if (!/^https?:/i.test(source)) {
    image.replaceWith(owner.createTextNode(label));
    return;
  }
  const link = owner.createElement('a');
  link.setAttribute('href', source);
  link.textContent = label;
  image.replaceWith(link);
}

function placeLink(link: HTMLAnchorElement, resolve: ResolveFile): void {
  const href = link.getAttribute('href') ?? '';
  const file = resolve(reference(href));
  if (file) {
    link.dataset['file'] = file;
    link.setAttribute('href', `#${file}`);
  } else if (/^(?:https?|mailto):/i.test(href)) {
    link.setAttribute('target', '_blank');
    link.setAttribute('rel', 'noopener noreferrer nofollow');
  } else {
    link.removeAttribute('href');
  }
}

/** A number stays on one line with its percent sign. */
function keepTogether(fragment: DocumentFragment): void {
  const texts = fragment.ownerDocument.createTreeWalker(fragment, NodeFilter.SHOW_TEXT);
  for (let node = texts.nextNode(); node; node = texts.nextNode()) {
    if (!node.parentElement?.closest('code')) node.textContent = (node.textContent ?? '').replace(/(\d) %/g, '$1\u00a0%');
  }
}

/** Wide tables scroll by themselves, also with the keyboard. */
function frameTable(table: HTMLTableElement): void {
  const frame = table.ownerDocument.createElement('div');
  frame.className = 'table-frame';
  frame.setAttribute('tabindex', '0');
  frame.setAttribute('role', 'group');
  frame.setAttribute('aria-label', texts.code.table);
  table.replaceWith(frame);
  frame.append(table);
}

/** Code says in which language it is, and can be copied. */
function frameCode(block: HTMLPreElement): void {
  const owner = block.ownerDocument;
  const language = /language-([\w+#.-]+)/.exec(block.querySelector('code')?.className ?? '')?.[1] ?? '';
  const frame = owner.createElement('div');
  frame.className = 'code-frame';
  const head = owner.createElement('div');
  head.className = 'code-head';
  const name = owner.createElement('span');
  name.textContent = language;
  const copy = owner.createElement('button');
  copy.type = 'button';
  copy.dataset['copy'] = '';
  copy.textContent = texts.report.copy;
  head.append(name, copy);
  block.setAttribute('tabindex', '0');
  block.setAttribute('role', 'group');
  block.setAttribute('aria-label', language ? texts.code.label(language) : texts.code.plain);
  block.replaceWith(frame);
  frame.append(head, block);
}

/** What draws a formula into an element; it throws on what it cannot read. */
export type DrawFormula = (tex: string, into: HTMLElement, display: boolean) => void;

export function hasFormulas(within: ParentNode): boolean {
  return within.querySelector('code.math') !== null;
}

export function drawFormulas(within: ParentNode, draw: DrawFormula): void {
  for (const code of within.querySelectorAll<HTMLElement>('code.math')) {
    const drawn = code.ownerDocument.createElement('span');
    const display = code.classList.contains('display');
    drawn.className = display ? 'formula display' : 'formula';
    try {
      draw(code.textContent ?? '', drawn, display);
      code.replaceWith(drawn);
    } catch {
      // Not read as TeX: it stays as it was written.
      code.className = 'formula-source';
    }
  }
}

const LEAST_SEGMENT = 1_200;

/**
 * Cuts a long text where one block surely ends and another begins, so that a growing answer is not read anew from its
 * start with every word. Joined, the parts are the text.
 */
export function segments(text: string): string[] {
  // A reference may be defined far from its use.
  if (text.length < 2 * LEAST_SEGMENT || /^ {0,3}\[[^\]]+\]:/m.test(text)) return [text];
  const parts: string[] = [];
  let begin = 0;
  let fence: string | undefined;
  let formula = false;
  let blank = false;
  let at = 0;
  for (const line of text.split('\n')) {
    const mark = /^ {0,3}(`{3,}|~{3,})/.exec(line)?.[1];
    const free = fence === undefined && !formula;
    if (free && blank && at - begin >= LEAST_SEGMENT && /^[\p{L}#|*_"'([]/u.test(line) && !/^[*] /.test(line)) {
      parts.push(text.slice(begin, at));
      begin = at;
    }
    if (fence === undefined) fence = mark;
    else if (mark !== undefined && mark.startsWith(fence)) fence = undefined;
    if (/^\s*\$\$\s*$/.test(line) && fence === undefined) formula = !formula;
    blank = line.trim() === '';
    at += line.length + 1;
  }
  parts.push(text.slice(begin));
  return parts;
}

/** Replaces only the blocks that differ, so that a growing text keeps its selection and its place. */
export function patch(target: HTMLElement, fragment: DocumentFragment): void {
  const next = [...fragment.childNodes];
  next.forEach((node, index) => {
    const old = target.childNodes[index];
    if (!old) target.append(node);
    else if (!old.isEqualNode(node)) old.replaceWith(node);
  });
  while (target.childNodes.length > next.length) target.lastChild?.remove();
}
