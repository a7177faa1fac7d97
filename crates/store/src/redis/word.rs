//! What one node says to the others: who says it, about what, and, of a user's log, the events themselves where they are
//! short. The head is plain, so that whoever has nothing to do with the user need not open the rest; all of it is sealed.

use std::sync::Arc;

use bytes::Buf as _;
use netra_protocol::id::{RunId, ThreadId, UserId};

use super::seal::Seal;
use crate::log::Entry;
use crate::node::NodeId;
use crate::revoked::Revocation;

/// Bytes of events that go with a word; what is longer is read from the log.
pub(crate) const MOST_BYTES: usize = 32 << 10;
/// How words are laid out: what has another number is not understood.
const LAYOUT: u8 = 1;
const HEAD: usize = 1 + 1 + 16 + 16 + 8;

/// What a word is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    /// Nothing: whoever says it wants to hear it.
    Beat,
    /// Runs are to be looked at.
    Runs,
    /// A user's log goes up to here.
    Log {
        /// Whose.
        user: UserId,
        /// The last number.
        through: u64,
    },
    /// Something was revoked, under this number.
    Revoked {
        /// The number.
        number: u64,
    },
}

/// What comes with a word.
#[derive(Debug)]
pub(crate) enum Content {
    /// Nothing.
    Nothing,
    /// Events, perhaps none: then they are in the log.
    Entries(Vec<Arc<Entry>>),
    /// What was revoked.
    Revocation(Revocation),
}

/// A word whose content is still sealed.
pub(crate) struct Word<'a> {
    pub(crate) from: NodeId,
    pub(crate) about: About,
    head: &'a [u8],
    sealed: &'a [u8],
}

/// A word that can be sent; none where it cannot be sealed.
pub(crate) fn say(seal: &Seal, from: NodeId, about: About, content: &[u8]) -> Option<Vec<u8>> {
    let (kind, user, through) = match about {
        About::Beat => (0, [0; 16], 0),
        About::Runs => (1, [0; 16], 0),
        About::Log { user, through } => (2, user.to_bytes(), through),
        About::Revoked { number } => (3, [0; 16], number),
    };
    let mut word = Vec::with_capacity(HEAD);
    word.extend_from_slice(&[LAYOUT, kind]);
    word.extend_from_slice(&from.to_bytes());
    word.extend_from_slice(&user);
    word.extend_from_slice(&u64::to_be_bytes(through));
    let sealed = seal.seal(&word, content)?;
    word.extend_from_slice(&sealed);
    Some(word)
}

/// The events, or nothing of them where they are too long.
pub(crate) fn written(entries: &[Arc<Entry>]) -> Option<Vec<u8>> {
    let long = |entry: &Arc<Entry>| entry.bytes() + entry.kind.as_str().len() + 46;
    if entries.iter().map(long).sum::<usize>() > MOST_BYTES {
        return Some(Vec::new());
    }
    let mut content = Vec::new();
    for entry in entries {
        content.extend_from_slice(&entry.seq.to_be_bytes());
        content.extend_from_slice(&entry.thread_id.to_bytes());
        content.extend_from_slice(&entry.run_id.to_bytes());
        for text in [entry.kind.as_str(), entry.body()] {
            content.extend_from_slice(&u32::try_from(text.len()).ok()?.to_be_bytes());
            content.extend_from_slice(text.as_bytes());
        }
    }
    Some(content)
}

impl<'a> Word<'a> {
    /// Reads who says what about whom; none of what is no word of ours.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (head, sealed) = bytes.split_at_checked(HEAD)?;
        let mut rest = head;
        if rest.try_get_u8().ok()? != LAYOUT {
            return None;
        }
        let kind = rest.try_get_u8().ok()?;
        let from = NodeId::from_bytes(id(&mut rest)?);
        let user = UserId::from_bytes(id(&mut rest)?);
        let through = rest.try_get_u64().ok()?;
        let about = match kind {
            0 => About::Beat,
            1 => About::Runs,
            2 => About::Log { user, through },
            3 => About::Revoked { number: through },
            _ => return None,
        };
        Some(Self {
            from,
            about,
            head,
            sealed,
        })
    }

    /// What came with it; nothing where the word is not of this installation, or was changed.
    pub(crate) fn open(&self, seal: &Seal) -> Option<Content> {
        let content = seal.open(self.head, self.sealed)?;
        let user = match self.about {
            About::Beat | About::Runs => return Some(Content::Nothing),
            About::Revoked { number } => {
                let words = std::str::from_utf8(&content).ok()?;
                return Some(Content::Revocation(Revocation::heard(number, words)));
            }
            About::Log { user, .. } => user,
        };
        let (mut rest, mut entries) = (&*content, Vec::new());
        while rest.has_remaining() {
            let seq = rest.try_get_u64().ok()?;
            let thread_id = ThreadId::from_bytes(id(&mut rest)?);
            let run_id = RunId::from_bytes(id(&mut rest)?);
            let (kind, body) = (text(&mut rest)?, text(&mut rest)?);
            let entry = Entry::heard(user, seq, (thread_id, run_id), kind, body);
            entries.push(Arc::new(entry));
        }
        Some(Content::Entries(entries))
    }
}

fn id(rest: &mut &[u8]) -> Option<[u8; 16]> {
    let mut id = [0; 16];
    rest.try_copy_to_slice(&mut id).ok()?;
    Some(id)
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let length = rest.try_get_u32().ok()? as usize;
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use netra_context::Runtime;

    use super::*;

    const FROM: NodeId = NodeId::from_bytes([7; 16]);

    fn seal() -> Seal {
        Seal::new(&Runtime::new(), &[1; 32])
    }

    fn user() -> UserId {
        UserId::from_parts(1, 1)
    }

    fn entries(word: &Word<'_>, seal: &Seal) -> Vec<Arc<Entry>> {
        match word.open(seal) {
            Some(Content::Entries(entries)) => entries,
            other => panic!("{other:?}"),
        }
    }

    fn say_all(seal: &Seal, about: About, entries: &[Arc<Entry>]) -> Vec<u8> {
        say(seal, FROM, about, &written(entries).unwrap()).unwrap()
    }

    fn entry(seq: u64, length: usize) -> Arc<Entry> {
        let ids = (ThreadId::from_parts(1, 2), RunId::from_parts(1, 3));
        let body = format!("{{\"text\":\"{}\"}}", "ä".repeat(length / 2));
        Arc::new(Entry::heard(user(), seq, ids, "message_delta".into(), body))
    }

    #[test]
    fn what_is_said_is_heard() {
        let seal = seal();
        let about = About::Log {
            user: user(),
            through: 8,
        };
        let said = say_all(&seal, about, &[entry(7, 10), entry(8, 20)]);
        let word = Word::read(&said).unwrap();
        assert_eq!((word.from, word.about), (FROM, about));
        let heard = entries(&word, &seal);
        let frames: Vec<_> = heard.iter().map(|entry| entry.frame(6)).collect();
        assert_eq!(frames, [entry(7, 10).frame(6), entry(8, 20).frame(6)]);
        assert_eq!(heard[0].kind.as_str(), "message_delta");
        assert_eq!(heard[1].run_id, RunId::from_parts(1, 3));
        for about in [About::Beat, About::Runs] {
            let said = say(&seal, FROM, about, &[]).unwrap();
            let word = Word::read(&said).unwrap();
            assert_eq!(word.about, about);
            assert!(matches!(word.open(&seal), Some(Content::Nothing)));
        }
        let about = About::Revoked { number: 4 };
        let said = say(&seal, FROM, about, b"plans:").unwrap();
        let heard = Word::read(&said).unwrap().open(&seal);
        let expected = Revocation::heard(4, "plans:");
        assert!(matches!(heard, Some(Content::Revocation(it)) if it == expected));
    }

    #[test]
    fn what_is_too_long_is_left_to_the_log() {
        let seal = seal();
        let about = About::Log {
            user: user(),
            through: 2,
        };
        let long = [entry(1, MOST_BYTES / 2), entry(2, MOST_BYTES / 2)];
        let said = say_all(&seal, about, &long);
        assert!(said.len() < 200, "{}", said.len());
        assert!(entries(&Word::read(&said).unwrap(), &seal).is_empty());
        let said = say_all(&seal, about, &long[..1]);
        assert_eq!(entries(&Word::read(&said).unwrap(), &seal).len(), 1);
    }

    #[test]
    fn a_word_that_was_changed_or_cut_anywhere_is_not_heard() {
        let seal = seal();
        let about = About::Log {
            user: user(),
            through: 1,
        };
        let said = say_all(&seal, about, &[entry(1, 4)]);
        let opens = |bytes: &[u8]| Word::read(bytes).is_some_and(|word| word.open(&seal).is_some());
        assert!(opens(&said));
        for at in 0..said.len() {
            let mut changed = said.clone();
            changed[at] ^= 1;
            assert!(!opens(&changed), "{at}");
            assert!(!opens(&said[..at]), "{at}");
        }
    }
}
