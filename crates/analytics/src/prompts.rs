//! What is kept of prompts: hashes of their beginnings, from which repetition is found without keeping a text.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::log::Values;

/// A prompt is hashed in blocks of so many bytes, each together with all before it. About 128 tokens of English text,
/// which is the step in which a large provider counts cached input.
pub(crate) const BLOCK_BYTES: usize = 512;

/// What one row says of its prompt.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Prompt<'a> {
    pub(crate) text: Option<&'a str>,
    pub(crate) hash: Option<&'a str>,
    pub(crate) prefix: Option<&'a str>,
}

/// The prompts of a log.
#[derive(Debug, Default)]
pub(crate) struct Prompts {
    /// Of the whole prompt, by its text, else by the hash that the log gives.
    whole: Values<i64>,
    /// Of the beginning, as the log gives it.
    prefix: Values<i64>,
    /// Bytes of the text.
    bytes: Values<u32>,
    /// The hashes of all texts' beginnings, one after the other.
    chain: Vec<u64>,
    /// Where the row's hashes begin in `chain`.
    begins: Values<i64>,
}

impl Prompts {
    pub(crate) fn push(&mut self, row: usize, prompt: &Prompt<'_>) {
        let whole = prompt.text.or(prompt.hash).map(kept);
        self.whole.push(row, whole);
        self.prefix.push(row, prompt.prefix.map(kept));
        let Some(text) = prompt.text else { return };
        let bytes = u32::try_from(text.len())
            .ok()
            .filter(|bytes| *bytes < u32::MAX);
        self.bytes.push(row, bytes);
        self.begins.push(row, i64::try_from(self.chain.len()).ok());
        let mut hasher = DefaultHasher::new();
        for block in text.as_bytes().chunks_exact(BLOCK_BYTES) {
            block.hash(&mut hasher);
            self.chain.push(hasher.finish());
        }
    }

    /// Rows with a text, and rows with a text or a hash of the whole.
    pub(crate) fn present(&self) -> (usize, usize) {
        (self.bytes.present(), self.whole.present())
    }

    /// Rows with a hash of their beginning.
    pub(crate) fn with_prefix(&self) -> usize {
        self.prefix.present()
    }

    /// What stands for the whole prompt.
    pub(crate) fn whole(&self, row: usize) -> Option<i64> {
        self.whole.get(row)
    }

    /// What stands for the beginning that the log names.
    pub(crate) fn prefix(&self, row: usize) -> Option<i64> {
        self.prefix.get(row)
    }

    /// The length of the text, and one hash for each beginning of whole blocks.
    pub(crate) fn beginnings(&self, row: usize) -> Option<(u32, &[u64])> {
        let bytes = self.bytes.get(row)?;
        let from = usize::try_from(self.begins.get(row)?).ok()?;
        let blocks = bytes as usize / BLOCK_BYTES;
        Some((bytes, self.chain.get(from..from + blocks)?))
    }
}

/// A hash that is no [`i64::MIN`], which stands for a missing cell.
fn kept(text: &str) -> i64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    i64::from_ne_bytes(hasher.finish().to_ne_bytes()).max(i64::MIN + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_beginnings_have_equal_hashes_and_others_not() {
        let mut prompts = Prompts::default();
        let (a, b) = ("a".repeat(BLOCK_BYTES), "b".repeat(BLOCK_BYTES));
        for (row, text) in [
            format!("{a}{b}x"),
            format!("{a}{b}y"),
            format!("{b}{b}"),
            "short".into(),
        ]
        .iter()
        .enumerate()
        {
            prompts.push(
                row,
                &Prompt {
                    text: Some(text),
                    ..Prompt::default()
                },
            );
        }
        let of = |row: usize| prompts.beginnings(row).unwrap().1.to_vec();
        assert_eq!(of(0), of(1));
        assert_eq!(of(0).len(), 2);
        assert_ne!(
            of(0)[1],
            of(2)[1],
            "the second block has another one before it"
        );
        assert!(of(3).is_empty());
        assert_ne!(prompts.whole(0), prompts.whole(1));
    }
}
