//! The log up to the present, then what is committed: atomically joined.
//!
//! The mailbox is opened before the log's last page is read. An event that was committed before
//! that read is in the page; one that was committed after it is in the mailbox; one in both is
//! told by its number. When the mailbox overflows, the same is done again from the cursor.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use netra_context::UserExecutionContext;
use netra_protocol::frame::HEARTBEAT_INTERVAL_MS;
use netra_store::{Entry, Store};
use tokio::time::Instant;

use crate::Error;
use crate::hub::OpenMailbox;
use crate::mailbox::Taken;

/// Entries of the log that are read at once.
const PAGE: usize = 256;
/// Between two positions that carry no event.
const POSITION_EVERY: Duration = Duration::from_millis(HEARTBEAT_INTERVAL_MS);

/// What a subscription sends.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// An event.
    Event {
        /// The number of what was sent before it on this subscription.
        prev: u64,
        /// The event.
        entry: Arc<Entry>,
    },
    /// The cursor moves on: everything up to here was sent or is not wanted.
    Position {
        /// The new cursor.
        seq: u64,
    },
}

impl Delivery {
    /// The text frame of a WebSocket.
    pub fn frame(&self) -> String {
        match self {
            Self::Event { prev, entry } => entry.frame(*prev),
            Self::Position { seq } => format!("{{\"type\":\"position\",\"seq\":{seq}}}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The mailbox is not yet, or no longer, complete from the cursor on.
    Replay,
    /// Everything after the cursor is in the mailbox.
    Live,
}

/// A user's events from a cursor on. Dropping it ends it.
pub struct Subscription {
    /// Names the log.
    pub epoch: String,
    /// Where it began.
    pub after: u64,
    /// The number of the user's last event when it began.
    pub latest_seq: u64,
    ctx: UserExecutionContext,
    store: Store,
    mailbox: OpenMailbox,
    mode: Mode,
    /// Everything up to here was handled.
    cursor: u64,
    /// The number that was last sent.
    sent: u64,
    next_position: Instant,
}

impl Subscription {
    pub(crate) fn new(
        ctx: UserExecutionContext,
        store: Store,
        mailbox: OpenMailbox,
        after: u64,
        latest_seq: u64,
    ) -> Self {
        Self {
            epoch: store.epoch().to_owned(),
            after,
            latest_seq,
            ctx,
            store,
            mailbox,
            mode: Mode::Replay,
            cursor: after,
            sent: after,
            next_position: Instant::now() + POSITION_EVERY,
        }
    }

    /// Waits for what comes next. Never empty. Dropping the future loses nothing.
    ///
    /// # Errors
    /// `Store` when the log cannot be read; the subscription may be asked again.
    pub async fn next(&mut self) -> Result<Vec<Delivery>, Error> {
        loop {
            let deliveries = match self.mode {
                Mode::Replay => self.replay().await?,
                Mode::Live => self.live().await,
            };
            if !deliveries.is_empty() {
                return Ok(deliveries);
            }
        }
    }

    async fn replay(&mut self) -> Result<Vec<Delivery>, Error> {
        self.mailbox.reopen();
        let page = self.store.events(&self.ctx, self.cursor, PAGE).await?;
        if page.is_empty() {
            self.mode = Mode::Live;
            return Ok(vec![self.position()]);
        }
        Ok(self.deliver(page))
    }

    async fn live(&mut self) -> Vec<Delivery> {
        match self.mailbox.take() {
            Taken::Lagging => {
                self.mode = Mode::Replay;
                Vec::new()
            }
            Taken::Entries { entries, through } => {
                let deliveries = self.deliver(entries);
                self.cursor = self.cursor.max(through.unwrap_or(0));
                if deliveries.is_empty() {
                    self.wait().await
                } else {
                    deliveries
                }
            }
        }
    }

    /// Waits for the mailbox, or until a position is due.
    async fn wait(&mut self) -> Vec<Delivery> {
        tokio::select! {
            () = self.mailbox.arrived() => Vec::new(),
            () = tokio::time::sleep_until(self.next_position) => {
                if self.cursor > self.sent {
                    vec![self.position()]
                } else {
                    self.next_position = Instant::now() + POSITION_EVERY;
                    Vec::new()
                }
            }
        }
    }

    fn position(&mut self) -> Delivery {
        self.sent = self.cursor;
        self.next_position = Instant::now() + POSITION_EVERY;
        Delivery::Position { seq: self.cursor }
    }

    fn deliver(&mut self, entries: impl Into<VecDeque<Arc<Entry>>>) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        for entry in entries.into() {
            if entry.seq <= self.cursor {
                continue;
            }
            self.cursor = entry.seq;
            if self.mailbox.filter().passes(&entry) {
                let prev = std::mem::replace(&mut self.sent, entry.seq);
                deliveries.push(Delivery::Event { prev, entry });
            }
        }
        deliveries
    }
}
