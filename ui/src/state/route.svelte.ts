// Where the page is, kept in the address: a conversation, a run, a page of the account or of the administration.

export const ACCOUNT = ['keys', 'sessions', 'secrets', 'tools', 'usage', 'audit', 'data'] as const;
export const ADMIN = ['users', 'invites', 'plans', 'runs', 'isolation', 'metrics', 'audit', 'tools', 'agents', 'models'] as const;
export type AccountSection = (typeof ACCOUNT)[number];
export type AdminSection = (typeof ADMIN)[number];

export type Place =
  | { page: 'chat'; threadId?: string }
  | { page: 'run'; runId: string }
  | { page: 'account'; section: AccountSection }
  | { page: 'admin'; section: AdminSection };

/** What a link is for that is good once. */
export interface OneTimeLink {
  kind: 'setup' | 'reset' | 'register';
  token: string;
}

/**
 * The token stands behind the `#`, which no server is told of. Without one there is no such link; an account can also be made
 * without an invitation, where the server lets anyone in.
 */
export function linkOf(path: string, fragment: string): OneTimeLink | undefined {
  const given = new URLSearchParams(fragment.startsWith('#') ? fragment.slice(1) : '');
  const kind = /^\/(setup|reset|register)\/?$/.exec(path)?.[1] as OneTimeLink['kind'] | undefined;
  if (kind === 'register') return { kind, token: given.get('invite') ?? '' };
  const token = given.get('token');
  return kind && token ? { kind, token } : undefined;
}

/** The place that an address names; an empty conversation where it names none. */
export function placeOf(path: string): Place {
  const [, first, second] = /^\/(\w+)\/?([\w-]*)\/?$/.exec(path) ?? [];
  if (first === 'threads' && second?.startsWith('thr_')) return { page: 'chat', threadId: second };
  if (first === 'runs' && second?.startsWith('run_')) return { page: 'run', runId: second };
  if (first === 'account') return { page: 'account', section: oneOf(ACCOUNT, second) };
  if (first === 'admin') return { page: 'admin', section: oneOf(ADMIN, second) };
  return { page: 'chat' };
}

export function pathOf(place: Place): string {
  switch (place.page) {
    case 'chat':
      return place.threadId ? `/threads/${place.threadId}` : '/';
    case 'run':
      return `/runs/${place.runId}`;
    default:
      return `/${place.page}/${place.section}`;
  }
}

/** A click on a link within the page goes there without loading it anew; with a key held it is the browser's, which opens a tab or a window. */
export function follow(event: MouseEvent, go: () => void): void {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go();
}

function oneOf<T extends string>(all: readonly T[], wanted: string | undefined): T {
  return all.find((one) => one === wanted) ?? (all[0] as T);
}

class Route {
  place = $state<Place>({ page: 'chat' });
  link = $state<OneTimeLink | undefined>();

  constructor() {
    this.read();
    addEventListener('popstate', () => this.read());
    // A link that is opened where the page is already, such as a second one after the first was used up.
    addEventListener('hashchange', () => this.read());
  }

  get threadId(): string | undefined {
    return this.place.page === 'chat' ? this.place.threadId : undefined;
  }

  /** A conversation, or an empty page for a new one. */
  open(threadId: string | undefined, replace = false): void {
    this.go(threadId ? { page: 'chat', threadId } : { page: 'chat' }, replace);
  }

  go(place: Place, replace = false): void {
    const path = pathOf(place);
    this.place = place;
    this.link = undefined;
    if (location.pathname + location.search + location.hash === path) return;
    if (replace) history.replaceState(null, '', path);
    else history.pushState(null, '', path);
  }

  private read(): void {
    this.place = placeOf(location.pathname);
    this.link = linkOf(location.pathname, location.hash);
  }
}

export const route = new Route();
