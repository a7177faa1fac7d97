// Loads what draws formulas when the first one is met: most answers have none.

import type { DrawFormula } from '../markdown';

class Tex {
  draw = $state.raw<DrawFormula | undefined>();
  private asked = false;

  want(): void {
    if (this.asked) return;
    this.asked = true;
    // To MathML, which the browser lays out by itself: no fonts, and no style attributes, which the page's policy forbids.
    import('temml')
      .then(({ default: temml }) => {
        this.draw = (tex, into, display) => temml.render(tex, into, { displayMode: display, throwOnError: true, trust: false, maxExpand: 200 });
      })
      .catch(() => {
        // The formula stays as it was written; the next one asks again.
        this.asked = false;
      });
  }
}

export const tex = new Tex();
