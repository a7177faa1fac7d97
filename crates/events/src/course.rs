//! The core of a subscription, without I/O: what is sent of what was read from the log and of what
//! was taken out of the mailbox, so that nothing is missing and nothing comes twice.

use std::collections::VecDeque;
use std::sync::Arc;

use netra_store::Entry;

use crate::filter::Filter;
use crate::mailbox::Taken;
use crate::subscription::Delivery;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The mailbox is not yet, or no longer, complete from the cursor on: read the log.
    Replay,
    /// Everything after the cursor is in the mailbox.
    Live,
}

/// Where a subscription stands.
#[derive(Debug)]
pub(crate) struct Course {
    pub(crate) mode: Mode,
    /// Everything up to here was handled.
    cursor: u64,
    /// The number that was last sent.
    sent: u64,
}

impl Course {
    pub(crate) fn new(after: u64) -> Self {
        Self {
            mode: Mode::Replay,
            cursor: after,
            sent: after,
        }
    }

    /// The next page of the log is what comes after this.
    pub(crate) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Takes a page of the log that was read after the mailbox had been opened anew. An empty one
    /// says that the mailbox is complete from here on.
    pub(crate) fn take_page(&mut self, page: Vec<Arc<Entry>>, filter: &Filter) -> Vec<Delivery> {
        if page.is_empty() {
            self.mode = Mode::Live;
            return vec![self.position()];
        }
        self.deliver(page, filter)
    }

    /// Takes what was in the mailbox.
    pub(crate) fn take(&mut self, taken: Taken, filter: &Filter) -> Vec<Delivery> {
        match taken {
            Taken::Lagging => {
                self.mode = Mode::Replay;
                Vec::new()
            }
            Taken::Entries { entries, through } => {
                let deliveries = self.deliver(entries, filter);
                self.cursor = self.cursor.max(through.unwrap_or(0));
                deliveries
            }
        }
    }

    /// Whether there is something to tell although no event is to be sent.
    pub(crate) fn has_moved(&self) -> bool {
        self.cursor > self.sent
    }

    /// The cursor as something to send.
    pub(crate) fn position(&mut self) -> Delivery {
        self.sent = self.cursor;
        Delivery::Position { seq: self.cursor }
    }

    fn deliver(
        &mut self,
        entries: impl Into<VecDeque<Arc<Entry>>>,
        filter: &Filter,
    ) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        for entry in entries.into() {
            // It was in the page, and came into the mailbox too.
            if entry.seq <= self.cursor {
                continue;
            }
            self.cursor = entry.seq;
            if filter.passes(&entry) {
                let prev = std::mem::replace(&mut self.sent, entry.seq);
                deliveries.push(Delivery::Event { prev, entry });
            }
        }
        deliveries
    }
}

#[cfg(test)]
mod tests;
