//! What is kept in Redis for a while, for all nodes: sealed, beside its own name, so that nothing can be put in another's
//! place.

use std::time::Duration;

use bytes::Bytes;
use fred::interfaces::KeysInterface as _;
use fred::types::Expiration;

use super::link::Link;

/// The most bytes of one content; longer ones are not kept: 256 KiB.
pub(crate) const MOST_BYTES: usize = 256 << 10;

impl Link {
    /// Keeps the content for so long, in place of what was kept there. False where it is not kept.
    pub(crate) async fn keep(&self, key: &str, content: &[u8], time: Duration) -> bool {
        let Some(client) = self.client() else {
            return false;
        };
        let ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        if content.len() > MOST_BYTES || ms == 0 {
            return false;
        }
        let Some(sealed) = self.seal().seal(key.as_bytes(), content) else {
            return false;
        };
        let until = Some(Expiration::PX(ms));
        let set = client.set::<(), _, _>(key, Bytes::from(sealed), until, None, false);
        self.answer(Box::pin(set)).await.is_some()
    }

    /// What is kept there.
    pub(crate) async fn find(&self, key: &str) -> Option<Vec<u8>> {
        let client = self.client()?;
        let found = client.get::<Option<Bytes>, _>(key);
        self.seal()
            .open(key.as_bytes(), &self.answer(Box::pin(found)).await??)
    }

    /// Takes out what is kept there: of all who ask, one gets it.
    pub(crate) async fn take_out(&self, key: &str) -> Option<Vec<u8>> {
        let client = self.client()?;
        let taken = client.getdel::<Option<Bytes>, _>(key);
        self.seal()
            .open(key.as_bytes(), &self.answer(Box::pin(taken)).await??)
    }
}
