//! Where in its file a policy stands, so that a mistake in it is told with its line.

use cedar_policy::Policy;

/// A policy of a file.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    file: String,
    /// The line on which it begins.
    line: usize,
    text: String,
}

impl Place {
    /// Where the policy has this text, or begins where it does not have it so.
    pub(super) fn of(&self, needle: &str) -> String {
        let before = self.text.find(needle).unwrap_or(0);
        let line = self.line + line_of(&self.text, before) - 1;
        format!("{}:{line}", self.file)
    }

    /// Where it begins.
    pub(super) fn start(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }
}

/// The places of a file's policies, in their order.
pub(super) struct Places<'a> {
    file: &'a str,
    text: &'a str,
    starts: Vec<(usize, usize)>,
}

impl<'a> Places<'a> {
    pub(super) fn of(file: &'a str, text: &'a str) -> Self {
        Self {
            file,
            text,
            starts: statements(text),
        }
    }

    /// The line on which the file has this text first.
    pub(super) fn line_of(&self, needle: &str) -> usize {
        line_of(self.text, self.text.find(needle).unwrap_or(0))
    }

    /// Of a policy as the parser has named it: by its number.
    pub(super) fn find(&self, policy: &Policy) -> Place {
        let id = policy.id().to_string();
        let number = id
            .strip_prefix("policy")
            .and_then(|number| number.parse().ok());
        let (start, end) = number
            .and_then(|number: usize| self.starts.get(number).copied())
            .unwrap_or((0, self.text.len()));
        Place {
            file: self.file.to_owned(),
            line: line_of(self.text, start),
            text: self.text[start..end].to_owned(),
        }
    }
}

/// The line of what stands after so many bytes.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    before.filter(|byte| **byte == b'\n').count() + 1
}

/// Where each statement of a text begins and ends, without the white space and the comments before it.
fn statements(text: &str) -> Vec<(usize, usize)> {
    let bytes = text.as_bytes();
    let (mut statements, mut start, mut at) = (Vec::new(), None, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                while bytes.get(at).is_some_and(|byte| *byte != b'\n') {
                    at += 1;
                }
                continue;
            }
            b'"' => {
                start.get_or_insert(at);
                at += 1;
                while bytes.get(at).is_some_and(|byte| *byte != b'"') {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            b';' => statements.extend(start.take().map(|start| (start, at))),
            byte if byte.is_ascii_whitespace() => {}
            _ => {
                start.get_or_insert(at);
            }
        }
        at += 1;
    }
    statements
}
