//! Standard output and standard error, with errors in place of panics.

use std::io::{self, IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::os::fd::AsFd as _;

use tokio::io::Interest;
use tokio::net::unix::pipe;

/// Writes text and a line end to standard output. A reader that went away is no error: it has
/// read what it wanted.
pub(crate) fn line(text: impl AsRef<str>) -> io::Result<()> {
    pass(text).map(drop)
}

/// The same for what has no end of its own: a break when nobody reads on.
pub(crate) fn pass(text: impl AsRef<str>) -> io::Result<ControlFlow<()>> {
    let mut out = io::stdout().lock();
    let written = out
        .write_all(text.as_ref().as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        other => other.map(ControlFlow::Continue),
    }
}

/// Waits until nobody reads standard output any more; for ever where it is no pipe.
pub(crate) async fn reader_gone() {
    let copy = io::stdout().as_fd().try_clone_to_owned();
    // What cannot be waited for, such as a file, has no reader that goes. Nothing is written here,
    // so how the pipe is set does not matter, and it stays as it is.
    if let Ok(out) = copy.and_then(pipe::Sender::from_owned_fd_unchecked)
        && out.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Pretty JSON on standard output.
pub(crate) fn json(value: &impl serde::Serialize) -> io::Result<()> {
    line(serde_json::to_string_pretty(value)?)
}

/// A line for people on standard error. Nothing can be done where that fails.
pub(crate) fn note(text: impl AsRef<str>) {
    let mut err = io::stderr().lock();
    writeln!(err, "{}", text.as_ref()).ok();
}

/// Whether standard error is a terminal that can draw.
pub(crate) fn is_drawable() -> bool {
    #[expect(
        clippy::disallowed_methods,
        reason = "this crate is the one that reads it"
    )]
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    io::stderr().is_terminal() && !dumb
}

/// Columns of a table for people: each as wide as its widest cell.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["a".into(), "long".into(), "x".into()],
            vec!["bé".into(), "y".into()],
        ];
        assert_eq!(table(&rows), "a   long  x\nbé  y");
        assert_eq!(table(&[]), "");
    }
}
