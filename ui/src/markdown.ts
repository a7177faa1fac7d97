// Markdown to safe nodes: what agents write is never trusted, and nothing outside this server is ever loaded.

import DOMPurify from 'dompurify';
import { Marked } from 'marked';

const marked = new Marked({ gfm: true, breaks: false });

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
  frame.setAttribute('aria-label', 'Table');
  table.replaceWith(frame);
  frame.append(table);
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
