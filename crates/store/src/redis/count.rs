//! Counting over all nodes: how often something was done since its minute began.

use fred::error::Error as Failure;
use fred::interfaces::KeysInterface as _;
use fred::types::ExpireOptions;
use netra_protocol::id::{KeyId, UserId};

use super::link::Link;
use crate::Store;

/// How long is counted, from the first on: 60,000 ms.
const WINDOW_MS: i64 = 60_000;

/// What is counted, each by itself.
#[derive(Debug, Clone, Copy)]
pub enum Counted {
    /// A user's requests.
    Requests(UserId),
    /// Requests with an API key of this user.
    Key(UserId, KeyId),
    /// Sign-ins of an account from an address, by a hash of both.
    SignIns([u8; 32]),
    /// Requests without good credentials, from an address.
    Strangers(u128),
}

/// Where a count stands, over all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// How many, with the one that was just counted.
    pub count: u64,
    /// Until they are forgotten, in milliseconds.
    pub left_ms: u64,
}

impl Counted {
    /// Its key: whose, where it is somebody's, and never an address or an account by its name.
    fn key(self, link: &Link) -> String {
        let epoch = link.epoch();
        match self {
            Self::Requests(user) => format!("netra:{epoch}:{user}:requests"),
            Self::Key(user, key) => format!("netra:{epoch}:{user}:requests:{key}"),
            Self::SignIns(hash) => format!("netra:{epoch}:sign-ins:{}", link.seal().name(&hash)),
            Self::Strangers(address) => {
                let name = link.seal().name(&address.to_be_bytes());
                format!("netra:{epoch}:strangers:{name}")
            }
        }
    }
}

impl Store {
    /// Counts one more over all nodes. None where this node has no others, or Redis does not answer: then each counts for
    /// itself, up to its [`Store::share`].
    pub async fn count(&self, what: Counted) -> Option<Count> {
        let link = self.0.db.link().filter(|_| self.nodes() > 1)?;
        let client = link.client()?;
        let key = what.key(link);
        let asked = async {
            let pipeline = client.pipeline();
            let () = pipeline.incr(&key).await?;
            let first = Some(ExpireOptions::NX);
            let () = pipeline.pexpire(&key, WINDOW_MS, first).await?;
            let () = pipeline.pttl(&key).await?;
            let (count, _, left): (i64, i64, i64) = pipeline.all().await?;
            Ok::<_, Failure>((count, left))
        };
        let (count, left) = link.answer(Box::pin(asked)).await?;
        Some(Count {
            count: u64::try_from(count).unwrap_or(u64::MAX),
            left_ms: u64::try_from(left).unwrap_or(0),
        })
    }

    /// How many nodes are alive over the database, with this one.
    pub fn nodes(&self) -> u32 {
        self.0.db.nodes()
    }

    /// This node's part of a limit that all nodes have together; at least 1.
    pub fn share(&self, limit: u32) -> u32 {
        (limit / self.nodes()).max(1)
    }
}
