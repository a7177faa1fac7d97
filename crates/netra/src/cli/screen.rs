//! The live part of a terminal: lines that are drawn over again.

use std::io::Write as _;

/// Draws on standard error.
#[derive(Debug, Default)]
pub(super) struct Screen {
    drawn: usize,
}

impl Screen {
    /// Width and height of the terminal; a common size where it does not tell.
    pub(super) fn size() -> (usize, usize) {
        terminal_size::terminal_size_of(std::io::stderr()).map_or((80, 24), |(width, height)| {
            (width.0.into(), height.0.into())
        })
    }

    /// Puts these lines in the place of those before.
    pub(super) fn draw(&mut self, lines: &[String]) {
        let mut text = self.clearing();
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        self.drawn = lines.len();
        // A terminal that went away shows nothing; the run goes on.
        std::io::stderr().lock().write_all(text.as_bytes()).ok();
    }

    /// Moves to the first drawn line and clears from there on.
    fn clearing(&self) -> String {
        match self.drawn {
            0 => String::new(),
            drawn => format!("\x1b[{drawn}A\x1b[0J"),
        }
    }
}
