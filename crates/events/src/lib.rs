//! Delivery: what the store has committed goes to the sockets of its user, and to nobody else.
//!
//! Reading order: [`Hub`] takes committed entries from the store's writer and puts them into the
//! mailboxes of their user; [`Subscription`] reads the log up to the present and then the mailbox,
//! with no gap and no repetition (the rule of that is in `course`, without I/O); [`UserWebSocketEmitter`] is what a run emits with.
//!
//! Nothing is sent that is not in the log, and nothing here is the only copy of anything: a
//! mailbox that overflows is thrown away and its subscription goes back to reading the log.

mod bridge;
mod course;
mod emitter;
mod filter;
mod hub;
mod mailbox;
mod subscription;

pub use bridge::{Start, WebSocketBridgeFactory};
pub use emitter::{Emission, UserWebSocketEmitter};
pub use filter::Filter;
pub use hub::Hub;
pub use subscription::{Delivery, Subscription};

/// What can go wrong with a subscription.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cursor belongs to another log, is older than retention, or is beyond the end.
    #[error("the log cannot be read from this cursor")]
    CursorExpired {
        /// The log that there is.
        epoch: String,
        /// The first number that it still answers for.
        oldest_seq: u64,
        /// Its last event's number.
        latest_seq: u64,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Store(#[from] netra_store::Error),
}
