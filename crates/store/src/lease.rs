//! The core of a node's lease, without I/O: when the next heartbeat is due, and until when the node surely has its runs.
//!
//! The database counts a lease from the moment at which it carries a heartbeat out, and the node from the moment at
//! which it asked for that. So the node never thinks that it holds longer than others do, whatever the answer took and
//! whatever its clock says.

use std::time::{Duration, Instant};

/// Between two heartbeats at the most: that often a node also looks for what no notification has told it.
const BEAT: Duration = Duration::from_secs(1);
/// As many heartbeats may be lost before the lease is.
const BEATS: u32 = 4;

/// A node's own view of its lease.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    length: Duration,
    held_until: Option<Instant>,
    /// From when on others that are not seen are dead: whatever kept this node from the database may have kept them.
    takes_from: Instant,
    next: Instant,
}

impl Lease {
    /// None is held yet, and the first heartbeat is due.
    pub(crate) fn new(length: Duration, now: Instant) -> Self {
        Self {
            length,
            held_until: None,
            takes_from: now,
            next: now,
        }
    }

    /// What each heartbeat asks for.
    pub(crate) fn length(&self) -> Duration {
        self.length
    }

    /// How long until the next heartbeat.
    pub(crate) fn due(&self, now: Instant) -> Duration {
        self.next.saturating_duration_since(now)
    }

    /// A heartbeat goes out now. The next one is due a while after it, whatever comes of it.
    pub(crate) fn asks(&mut self, now: Instant) {
        self.next = now + BEAT.min(self.length / BEATS);
    }

    /// The heartbeat that went out at this time was carried out.
    pub(crate) fn renewed(&mut self, asked: Instant) {
        if self.held_until.is_some_and(|until| asked >= until) {
            self.takes_from = asked + self.length;
        }
        self.held_until = Some(asked + self.length);
    }

    /// Whether it may take what others held: it holds its own lease, and where that was lost, all others have had the
    /// time to get theirs back.
    pub(crate) fn may_take(&self, now: Instant) -> bool {
        self.is_held(now) && now >= self.takes_from
    }

    /// Whether nobody can have taken the node's runs.
    pub(crate) fn is_held(&self, now: Instant) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests;
