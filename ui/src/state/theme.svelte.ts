// Light, dark, or as the system wants it. Kept in this browser.

export const THEMES = ['system', 'light', 'dark'] as const;
export type ThemeName = (typeof THEMES)[number];
const KEY = 'netra-theme';

class Theme {
  name = $state<ThemeName>('system');

  constructor() {
    this.choose(THEMES.find((one) => one === kept()) ?? 'system');
  }

  choose(name: ThemeName): void {
    this.name = name;
    if (name === 'system') delete document.documentElement.dataset['theme'];
    else document.documentElement.dataset['theme'] = name;
    try {
      localStorage.setItem(KEY, name);
    } catch {
      // Where nothing may be kept, the choice lasts until the page is left.
    }
  }

  next(): void {
    this.choose(THEMES[(THEMES.indexOf(this.name) + 1) % THEMES.length] ?? 'system');
  }
}

function kept(): string | null {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

export const theme = new Theme();
