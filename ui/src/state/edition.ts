// Whether the server has another page by now than the one that runs here: the names of its scripts tell.

/** False too when the server cannot be asked. */
export async function isOutdated(): Promise<boolean> {
  try {
    const answer = await fetch('/', { cache: 'no-store' });
    return answer.ok && differs(await answer.text(), document);
  } catch {
    return false;
  }
}

export function differs(html: string, page: Document): boolean {
  const theirs = scripts(new DOMParser().parseFromString(html, 'text/html'));
  // A page without a script of its own is not ours: the server was built without one, or a proxy answers.
  return theirs !== '' && theirs !== scripts(page);
}

function scripts(page: Document): string {
  const names = [...page.querySelectorAll('script[type=module][src]')].map((script) => script.getAttribute('src'));
  return names.filter((name) => name?.startsWith('/assets/')).join(' ');
}
