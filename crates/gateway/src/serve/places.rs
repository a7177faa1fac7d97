//! The places that connections take: as many as the process can have, and when all are taken, the
//! oldest connection on which nobody has signed in goes.
//!
//! So whoever opens many connections and says nothing pushes out their own and other strangers'
//! idle ones, never a user's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

#[derive(Default)]
struct Strangers {
    next: u64,
    /// By age.
    tokens: BTreeMap<u64, Stranger>,
}

struct Stranger {
    token: CancellationToken,
    evicted: Arc<AtomicBool>,
}

/// All places of the node.
pub(crate) struct Places {
    most: u32,
    free: Arc<Semaphore>,
    strangers: Arc<Mutex<Strangers>>,
    shutdown: CancellationToken,
}

/// The place of one connection, given back when dropped.
pub(crate) struct Place {
    _permit: Option<OwnedSemaphorePermit>,
    strangers: Arc<Mutex<Strangers>>,
    number: u64,
    token: CancellationToken,
    evicted: Arc<AtomicBool>,
    asked: AtomicBool,
    known: AtomicBool,
    taken: AtomicU64,
}

impl Places {
    /// `most` is at least 1.
    pub(crate) fn new(most: usize, shutdown: CancellationToken) -> Self {
        let most = u32::try_from(most).unwrap_or(u32::MAX).max(1);
        Self {
            most,
            free: Arc::new(Semaphore::new(most as usize)),
            strangers: Arc::default(),
            shutdown,
        }
    }

    /// A place for a connection that was accepted, at once or when one becomes free.
    pub(crate) async fn take(&self) -> Place {
        let permit = match self.free.clone().try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => {
                self.evict_oldest();
                // Nobody closes the semaphore.
                self.free.clone().acquire_owned().await.ok()
            }
        };
        let token = self.shutdown.child_token();
        let evicted = Arc::new(AtomicBool::new(false));
        let mut strangers = self.strangers.lock();
        let number = strangers.next;
        strangers.next += 1;
        let stranger = Stranger {
            token: token.clone(),
            evicted: evicted.clone(),
        };
        strangers.tokens.insert(number, stranger);
        drop(strangers);
        Place {
            _permit: permit,
            strangers: self.strangers.clone(),
            number,
            token,
            evicted,
            asked: AtomicBool::new(false),
            known: AtomicBool::new(false),
            taken: AtomicU64::new(0),
        }
    }

    fn evict_oldest(&self) {
        let oldest = self.strangers.lock().tokens.pop_first();
        if let Some((_, oldest)) = oldest {
            metrics::counter!("netra_connections_evicted_total").increment(1);
            oldest.evicted.store(true, Ordering::Release);
            oldest.token.cancel();
        }
    }

    /// Waits until every place has been given back.
    pub(crate) async fn all_left(&self) {
        // Nobody closes the semaphore.
        self.free.acquire_many(self.most).await.ok();
    }
}

impl Place {
    /// Fires when the server stops, or when the place is needed for another.
    pub(crate) async fn told_to_go(&self) {
        self.token.cancelled().await;
    }

    /// Closes the connection at once, whatever is still to be sent.
    pub(crate) fn close(&self) {
        self.evicted.store(true, Ordering::Release);
        self.token.cancel();
    }

    /// Whether the connection is to be closed at once.
    pub(crate) fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Acquire)
    }

    /// A request has come.
    pub(crate) fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    /// Whether a request has ever come.
    pub(crate) fn has_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// The connection has taken bytes.
    pub(crate) fn took(&self, bytes: usize) {
        self.taken.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// How many bytes the connection has taken so far.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Somebody has signed in here: the place is kept from now on.
    pub(crate) fn keep(&self) {
        if !self.known.load(Ordering::Relaxed) {
            self.known.store(true, Ordering::Relaxed);
            self.strangers.lock().tokens.remove(&self.number);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.keep();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn the_oldest_stranger_makes_room_and_a_user_does_not() {
        let places = Places::new(2, CancellationToken::new());
        let user = places.take().await;
        user.keep();
        let stranger = places.take().await;
        let mut third = Box::pin(places.take());
        assert!((&mut third).now_or_never().is_none(), "all are taken");
        assert!(stranger.is_evicted() && !user.is_evicted());
        stranger.told_to_go().await;
        drop(stranger);
        let third = third.await;
        third.keep();
        assert!(places.take().now_or_never().is_none(), "nobody has to go");
        assert!(!third.is_evicted());
    }

    #[tokio::test]
    async fn the_end_waits_for_all_places() {
        let shutdown = CancellationToken::new();
        let places = Places::new(3, shutdown.clone());
        let place = places.take().await;
        assert!(places.all_left().now_or_never().is_none());
        shutdown.cancel();
        place.told_to_go().await;
        assert!(!place.is_evicted());
        drop(place);
        places.all_left().await;
        assert!(places.strangers.lock().tokens.is_empty());
    }
}
