// Texts of the palette and of what can be done with the keyboard.

export const palette = {
  key: 'Ctrl K',
  label: 'Go to or do',
  placeholder: 'Where to, or what to do?',
  none: 'Nothing goes by this name.',
  hint: '↑ ↓ choose, Enter does it, Esc closes',
  groups: { do: 'Do', go: 'Go to', agent: 'Ask', thread: 'Conversations' },
  fresh: 'New conversation',
  stop: 'Stop the run',
  inspect: 'Inspect the latest run',
  attach: 'Attach a file',
  ask: (agent: string) => `Ask ${agent}`,
  theme: (name: string) => `Colours: ${name}`,
  signOut: 'Sign out',
  keys: 'Keyboard',
  keysTitle: 'With the keyboard',
  shortcuts: [
    ['Ctrl K', 'go anywhere, do anything'],
    ['Alt N', 'new conversation'],
    ['Alt ↑ / Alt ↓', 'the conversation before or after'],
    ['/', 'write a question'],
    ['Enter', 'send; Shift Enter starts a new line'],
    ['Esc', 'close what is open'],
    ['?', 'this list'],
  ],
} as const;
