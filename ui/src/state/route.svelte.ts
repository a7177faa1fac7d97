// Where the page is, kept in the address: a thread, a set-up link, or nothing in particular.

class Route {
  threadId = $state<string | undefined>();
  setupToken = $state<string | undefined>();

  constructor() {
    this.read();
    addEventListener('popstate', () => this.read());
  }

  open(threadId: string | undefined, replace = false): void {
    const path = threadId ? `/threads/${threadId}` : '/';
    this.threadId = threadId;
    this.setupToken = undefined;
    if (location.pathname === path && location.search === '') return;
    if (replace) history.replaceState(null, '', path);
    else history.pushState(null, '', path);
  }

  private read(): void {
    this.threadId = /^\/threads\/(thr_[\w-]+)\/?$/.exec(location.pathname)?.[1];
    const query = new URLSearchParams(location.search);
    const token = query.get('setup') ?? (location.pathname === '/setup' ? query.get('token') : null);
    this.setupToken = token ?? undefined;
  }
}

export const route = new Route();
