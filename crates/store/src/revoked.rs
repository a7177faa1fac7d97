//! What nodes remember of users and of their credentials, and is no longer so.
//!
//! Whatever changes that says so in its own transaction, which takes the next number of a row in `meta`. The number goes
//! with the word to the other nodes; whoever has missed one sees that by the next, or a second later by the row, and then
//! forgets everything.

use std::fmt;
use std::str::FromStr;

use netra_protocol::id::{KeyId, SessionId, UserId};
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::Store;
use crate::sql::{self, Connection};

/// Of which nobody reads, at the most: then everything is forgotten.
const BEHIND: usize = 256;
/// More of one transaction are told as everything.
const MOST: usize = 64;
/// The row with the last number.
const ROW: &str = "revocations";

/// What is no longer as it was: whoever remembers it has to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    /// A sign-in has ended.
    Session(SessionId),
    /// An API key was revoked.
    Key(KeyId),
    /// The user was disabled or has left, or has another role, plan or limits.
    User(UserId),
    /// The plans have other limits.
    Plans,
    /// Something, and it is not known what.
    Everything,
}

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(id) => write!(f, "session:{id}"),
            Self::Key(id) => write!(f, "key:{id}"),
            Self::User(id) => write!(f, "user:{id}"),
            Self::Plans => f.write_str("plans:"),
            Self::Everything => f.write_str("everything:"),
        }
    }
}

impl FromStr for Revoked {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (kind, id) = text.split_once(':').ok_or(())?;
        match kind {
            "session" => id.parse().map(Self::Session).map_err(drop),
            "key" => id.parse().map(Self::Key).map_err(drop),
            "user" => id.parse().map(Self::User).map_err(drop),
            "plans" => Ok(Self::Plans),
            "everything" => Ok(Self::Everything),
            _ => Err(()),
        }
    }
}

/// What one transaction has revoked, under its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revocation {
    pub(crate) number: u64,
    pub(crate) what: Vec<Revoked>,
}

impl Revocation {
    /// Gives what this transaction has revoked its number; nothing where it has revoked nothing. Until the transaction
    /// ends nobody else gets one.
    pub(crate) fn number(connection: &Connection, what: Vec<Revoked>) -> sql::Result<Option<Self>> {
        if what.is_empty() {
            return Ok(None);
        }
        let mut statement = connection.prepare_cached(
            "INSERT INTO meta (key, value) VALUES (?1, '1')
             ON CONFLICT (key) DO UPDATE SET value = CAST(CAST(meta.value AS bigint) + 1 AS text)
             RETURNING CAST(value AS bigint)",
        )?;
        let number = statement.query_row([ROW], |row| row.get(0))?;
        let what = if what.len() > MOST {
            vec![Revoked::Everything]
        } else {
            what
        };
        Ok(Some(Self { number, what }))
    }

    /// As nodes say it: what was revoked, with spaces between.
    pub(crate) fn words(&self) -> String {
        let words: Vec<_> = self.what.iter().map(ToString::to_string).collect();
        words.join(" ")
    }

    /// What a node does not understand is everything to it.
    pub(crate) fn heard(number: u64, words: &str) -> Self {
        let word = |word: &str| word.parse().unwrap_or(Revoked::Everything);
        Self {
            number,
            what: words.split(' ').map(word).collect(),
        }
    }
}

/// The last number, as a statement of its own would read it.
pub(crate) const LAST: &str =
    "coalesce((SELECT CAST(value AS bigint) FROM meta WHERE key = 'revocations'), 0)";

/// What this node has heard of revocations, and whom it tells.
pub(crate) struct Revocations {
    /// Up to here nothing was missed; none before the first look.
    known: Mutex<Option<u64>>,
    told: broadcast::Sender<Revoked>,
}

impl Default for Revocations {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            told: broadcast::channel(BEHIND).0,
        }
    }
}

impl Revocations {
    /// This node has committed it itself, and whoever did has forgotten what it is about.
    pub(crate) fn own(&self, number: u64) {
        self.is_next(number);
    }

    /// Another node has committed it.
    pub(crate) fn heard(&self, revocation: &Revocation) {
        for revoked in &revocation.what {
            self.tell(*revoked);
        }
        self.is_next(revocation.number);
    }

    /// The last number is this one.
    pub(crate) fn looked(&self, last: u64) {
        let mut known = self.known.lock();
        let before = known.unwrap_or(last);
        // What was heard meanwhile may be ahead of it.
        *known = Some(before.max(last));
        drop(known);
        if before < last {
            self.tell(Revoked::Everything);
        }
    }

    /// Where some are missing before it, the next look finds them.
    fn is_next(&self, number: u64) {
        let mut known = self.known.lock();
        if *known == Some(number.wrapping_sub(1)) {
            *known = Some(number);
        }
    }

    fn tell(&self, revoked: Revoked) {
        // Without a gateway there is nobody to tell.
        self.told.send(revoked).ok();
    }
}

impl Store {
    /// What others than this process have revoked, from now on. Whoever reads too late has missed everything.
    pub fn revoked(&self) -> broadcast::Receiver<Revoked> {
        self.0.revocations.told.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(number: u128) -> Revoked {
        Revoked::User(UserId::from_parts(1, number))
    }

    fn told(receiver: &mut broadcast::Receiver<Revoked>) -> Vec<Revoked> {
        std::iter::from_fn(|| receiver.try_recv().ok()).collect()
    }

    #[test]
    fn what_is_said_is_read_back_and_what_is_not_understood_is_everything() {
        let what = vec![
            Revoked::Session(SessionId::from_parts(1, 1)),
            Revoked::Key(KeyId::from_parts(1, 2)),
            user(3),
            Revoked::Plans,
            Revoked::Everything,
        ];
        let said = Revocation { number: 7, what };
        assert_eq!(Revocation::heard(7, &said.words()), said);
        let strange = Revocation::heard(7, "planets: user:x");
        assert_eq!(strange.what, [Revoked::Everything; 2]);
    }

    #[test]
    fn whoever_missed_one_forgets_everything_at_the_next_look() {
        let revocations = Revocations::default();
        let mut receiver = revocations.told.subscribe();
        revocations.looked(4);
        assert_eq!(told(&mut receiver), [], "what was before nobody remembers");
        revocations.own(5);
        revocations.heard(&Revocation::heard(6, &user(1).to_string()));
        revocations.looked(6);
        assert_eq!(told(&mut receiver), [user(1)]);
        revocations.heard(&Revocation::heard(8, &user(2).to_string()));
        revocations.own(9);
        revocations.looked(9);
        assert_eq!(told(&mut receiver), [user(2), Revoked::Everything]);
        revocations.looked(9);
        assert_eq!(told(&mut receiver), []);
    }
}
