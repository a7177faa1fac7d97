//! One way to write a secret, and where a text has it.

use std::ops::Range;

use memchr::memmem;
use zeroize::Zeroizing;

/// A text that ends within a secret, because it was cut there, loses what it has of it, from so many bytes on.
pub(super) const MIN_CUT: usize = 6;

/// A secret as it may be written, to be looked for in time that does not grow with its length: both it and what it is
/// looked for in may be a user's to choose.
pub(super) struct Form {
    bytes: Zeroizing<Vec<u8>>,
    /// For each length of a beginning, the longest shorter beginning that it ends with.
    shorter: Vec<usize>,
}

impl Form {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        let mut form = Self {
            bytes: Zeroizing::new(bytes),
            shorter: vec![0; 2],
        };
        for at in 1..form.bytes.len() {
            let matched = form.matched(form.shorter[at], form.bytes[at]);
            form.shorter.push(matched);
        }
        form
    }

    /// How much of the form has been read, one byte after so much of it.
    fn matched(&self, mut so_far: usize, byte: u8) -> usize {
        while so_far > 0 && self.bytes.get(so_far) != Some(&byte) {
            so_far = self.shorter[so_far];
        }
        so_far + usize::from(self.bytes.get(so_far) == Some(&byte))
    }

    /// Where the text has it, also where the text ends within it.
    pub(super) fn places(&self, text: &[u8]) -> Vec<Range<usize>> {
        if !self.may_be_in(text) {
            return Vec::new();
        }
        let (mut places, mut so_far) = (Vec::new(), 0);
        for (at, byte) in (1..).zip(text) {
            so_far = self.matched(so_far, *byte);
            if so_far == self.bytes.len() {
                places.push(at - so_far..at);
                so_far = 0;
            }
        }
        if so_far >= MIN_CUT {
            places.push(text.len() - so_far..text.len());
        }
        places
    }

    /// Whether the text may have it: a quick look that spares nearly all texts the other.
    fn may_be_in(&self, text: &[u8]) -> bool {
        let tail = text.len().saturating_sub(self.bytes.len());
        let read = |so_far, byte: &u8| self.matched(so_far, *byte);
        memmem::find(text, &self.bytes).is_some() || text[tail..].iter().fold(0, read) >= MIN_CUT
    }
}
