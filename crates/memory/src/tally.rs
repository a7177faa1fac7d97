//! What this thread has allocated and freed but not yet entered in the ledger.

use std::cell::Cell;

use crate::ledger::{LEDGER, Tag};

/// A thread enters its tally in the ledger once it differs from it by this much.
const FLUSH_BYTES: i64 = 8 * 1024;

/// The thread's tally. It has no destructor: std forbids those in an allocator's thread locals. What a thread holds
/// back when it ends (below 8 KiB, and nothing for a scope it has left) is therefore never entered.
struct Tally {
    current: Cell<Tag>,
    own: Cell<i64>,
    /// One other account whose blocks this thread frees; consecutive frees tend to be of the same owner.
    foreign: Cell<Tag>,
    foreign_bytes: Cell<i64>,
}

thread_local! {
    static TALLY: Tally = const {
        Tally {
            current: Cell::new(Tag::SYSTEM),
            own: Cell::new(0),
            foreign: Cell::new(Tag::SYSTEM),
            foreign_bytes: Cell::new(0),
        }
    };
}

/// Counts a new block for the current account and returns the tag that the block must carry.
pub(crate) fn allocated(bytes: usize) -> Tag {
    TALLY.with(|tally| {
        let tag = tally.current.get();
        tally.add_own(bytes as i64);
        tag
    })
}

/// Counts a change in the size of a block that carries `tag`: negative when it is freed or shrinks.
pub(crate) fn changed(tag: Tag, delta: i64) {
    TALLY.with(|tally| {
        if tag == tally.current.get() {
            tally.add_own(delta);
        } else {
            tally.add_foreign(tag, delta);
        }
    });
}

/// Makes another account the current one and returns the one before.
pub(crate) fn switch(tag: Tag) -> Tag {
    TALLY.with(|tally| {
        let before = tally.current.get();
        if tag != before {
            tally.flush_own();
            tally.flush_foreign();
            tally.current.set(tag);
        }
        before
    })
}

/// The account that this thread charges now.
pub(crate) fn current() -> Tag {
    TALLY.with(|tally| tally.current.get())
}

/// Enters everything this thread has collected.
pub(crate) fn flush() {
    TALLY.with(|tally| {
        tally.flush_own();
        tally.flush_foreign();
    });
}

/// What this thread has not yet entered for its current account.
pub(crate) fn unflushed() -> i64 {
    TALLY.with(|tally| tally.own.get())
}

impl Tally {
    #[inline]
    fn add_own(&self, delta: i64) {
        let own = self.own.get() + delta;
        self.own.set(own);
        if own.abs() >= FLUSH_BYTES {
            self.flush_own();
        }
    }

    #[inline]
    fn add_foreign(&self, tag: Tag, delta: i64) {
        if tag != self.foreign.get() {
            self.flush_foreign();
            self.foreign.set(tag);
        }
        let foreign = self.foreign_bytes.get() + delta;
        self.foreign_bytes.set(foreign);
        if foreign.abs() >= FLUSH_BYTES {
            self.flush_foreign();
        }
    }

    fn flush_own(&self) {
        let own = self.own.replace(0);
        if own != 0 {
            LEDGER.charge(self.current.get(), own);
        }
    }

    fn flush_foreign(&self) {
        let foreign = self.foreign_bytes.replace(0);
        if foreign != 0 {
            LEDGER.charge(self.foreign.get(), foreign);
        }
    }
}
