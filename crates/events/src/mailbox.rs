//! What waits for one subscription: bounded in number and bytes, never waited for.

use std::collections::VecDeque;
use std::sync::Arc;

use netra_context::memory::{Reservation, Scope};
use netra_store::Entry;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::filter::Filter;

/// Live events that may wait for one socket.
pub(crate) const MAX_ENTRIES: usize = 1_000;
/// Bytes of live events that may wait for one socket: 4 MiB.
pub(crate) const MAX_BYTES: usize = 4 << 20;

pub(crate) struct Mailbox {
    filter: Filter,
    most_entries: usize,
    most_bytes: usize,
    scope: Scope,
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Arc<Entry>>,
    /// What waits, on the account of whoever listens: entries may outlive the run that made them.
    held: Option<Reservation>,
    /// When the first of them came.
    since: Option<Instant>,
    /// The first number that came by, wanted or not, since the mailbox was opened.
    first: Option<u64>,
    /// The last number that came by, wanted or not, since the mailbox was opened, or up to which the log was read.
    through: Option<u64>,
    /// Something was thrown away; what waits is no longer complete.
    lagging: bool,
}

impl State {
    /// Throws away what waits: the log has it.
    fn lag(&mut self) {
        *self = Self {
            lagging: true,
            ..Self::default()
        };
    }
}

/// What was taken out of a mailbox.
pub(crate) enum Taken {
    /// Entries in order, complete up to and with `through`.
    Entries {
        entries: VecDeque<Arc<Entry>>,
        through: Option<u64>,
    },
    /// Something was thrown away: read the log.
    Lagging,
}

impl Mailbox {
    pub(crate) fn new(filter: Filter) -> Self {
        Self::with_room(filter, MAX_ENTRIES, MAX_BYTES)
    }

    pub(crate) fn with_room(filter: Filter, most_entries: usize, most_bytes: usize) -> Self {
        Self {
            filter,
            most_entries,
            most_bytes,
            scope: Scope::current(),
            state: Mutex::default(),
            arrived: Notify::new(),
        }
    }

    pub(crate) fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Begins anew, empty: whatever is committed from now on is complete again.
    pub(crate) fn reopen(&self) {
        *self.state.lock() = State::default();
    }

    /// Puts an entry in, or notes that there was no room for it, here or in the user's memory. Never
    /// blocks. One that came by before, or was read, is left out: other nodes' may come again, and late.
    pub(crate) fn put(&self, entry: &Arc<Entry>) {
        let mut state = self.state.lock();
        if state.lagging || state.through.is_some_and(|through| entry.seq <= through) {
            return;
        }
        // What should have come in between was committed by another node, and is in the log.
        let in_order = state.through.is_none_or(|through| entry.seq == through + 1);
        state.through = Some(entry.seq);
        state.first.get_or_insert(entry.seq);
        if in_order && !self.filter.passes(entry) {
            return;
        }
        let fits = state.waiting.len() < self.most_entries;
        if !in_order {
            state.lag();
        } else if !(fits && self.holds(&mut state, entry.bytes())) {
            metrics::counter!("netra_bridge_mailbox_overflows_total").increment(1);
            state.lag();
        } else {
            state.since.get_or_insert_with(Instant::now);
            state.waiting.push_back(Arc::clone(entry));
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Notes that the log goes up to here at least, whoever wrote it: what did not come by is to be read there.
    pub(crate) fn missed(&self, through: u64) {
        let mut state = self.state.lock();
        if state.lagging || state.through.is_some_and(|known| known >= through) {
            return;
        }
        state.lag();
        drop(state);
        self.arrived.notify_one();
    }

    /// Notes that the log was read up to here after the mailbox was opened anew: from here on it is complete, unless
    /// what came by began later.
    pub(crate) fn read_up_to(&self, cursor: u64) {
        let mut state = self.state.lock();
        if state.lagging {
            return;
        }
        if state.first.is_some_and(|first| first > cursor + 1) {
            state.lag();
            drop(state);
            self.arrived.notify_one();
        } else {
            state.through = state.through.max(Some(cursor));
        }
    }

    /// Whether there is room for as many bytes more, in the mailbox and on the account.
    fn holds(&self, state: &mut State, bytes: usize) -> bool {
        let held = state.held.get_or_insert_with(|| self.scope.reservation());
        held.bytes() + bytes as u64 <= self.most_bytes as u64 && held.grow(bytes as u64).is_ok()
    }

    pub(crate) fn take(&self) -> Taken {
        let mut state = self.state.lock();
        if state.lagging {
            return Taken::Lagging;
        }
        state.held = None;
        if let Some(since) = state.since.take() {
            metrics::histogram!("netra_bridge_delivery_seconds").record(since.elapsed());
        }
        Taken::Entries {
            entries: std::mem::take(&mut state.waiting),
            through: state.through,
        }
    }

    /// Resolves when something was put in since the last call.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }
}
