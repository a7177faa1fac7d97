//! The log up to the present, then what is committed: atomically joined.
//!
//! The mailbox is opened before the log's last page is read. An event that was committed before
//! that read is in the page; one that was committed after it is in the mailbox; one in both is
//! told by its number. When the mailbox overflows, the same is done again from the cursor.

use std::sync::Arc;
use std::time::Duration;

use netra_context::UserExecutionContext;
use netra_protocol::frame::HEARTBEAT_INTERVAL_MS;
use netra_store::{Entry, Store};
use tokio::time::Instant;

use crate::Error;
use crate::course::{Course, Mode};
use crate::hub::OpenMailbox;

/// Entries of the log that are read at once.
const PAGE: usize = 256;
/// Bytes of JSON after which a page of the log ends before that.
const PAGE_BYTES: usize = 1 << 20;
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
    course: Course,
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
            course: Course::new(after),
            next_position: Instant::now() + POSITION_EVERY,
        }
    }

    /// Waits for what comes next. Never empty. Dropping the future loses nothing.
    ///
    /// # Errors
    /// `Store` when the log cannot be read; the subscription may be asked again.
    pub async fn next(&mut self) -> Result<Vec<Delivery>, Error> {
        loop {
            let mut deliveries = match self.course.mode {
                // Boxed: a subscription at rest does not hold what reading the log needs.
                Mode::Replay => Box::pin(self.replay()).await?,
                Mode::Live => self.live().await,
            };
            deliveries.retain(|delivery| match delivery {
                Delivery::Event { entry, .. } => self.mailbox.owns(entry),
                Delivery::Position { .. } => true,
            });
            if !deliveries.is_empty() {
                return Ok(deliveries);
            }
        }
    }

    async fn replay(&mut self) -> Result<Vec<Delivery>, Error> {
        self.mailbox.reopen();
        let after = self.course.cursor();
        let page = self
            .store
            .events_within(&self.ctx, after, PAGE, PAGE_BYTES)
            .await?;
        self.next_position = Instant::now() + POSITION_EVERY;
        if page.is_empty() {
            self.mailbox.read_up_to(after);
        }
        Ok(self.course.take_page(page, self.mailbox.filter()))
    }

    async fn live(&mut self) -> Vec<Delivery> {
        let taken = self.mailbox.take();
        let deliveries = self.course.take(taken, self.mailbox.filter());
        if deliveries.is_empty() && self.course.mode == Mode::Live {
            self.wait().await
        } else {
            deliveries
        }
    }

    /// Waits for the mailbox, or until a position is due.
    async fn wait(&mut self) -> Vec<Delivery> {
        tokio::select! {
            () = self.mailbox.arrived() => Vec::new(),
            () = tokio::time::sleep_until(self.next_position) => {
                self.next_position = Instant::now() + POSITION_EVERY;
                let position = self.course.has_moved().then(|| self.course.position());
                position.into_iter().collect()
            }
        }
    }
}
