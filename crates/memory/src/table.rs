//! The table of accounts: one line each, addressed by tags, changed only by atomic operations and without allocating.
//!
//! It names its atomics and its mutex through `crate::sync`, so that the model checker can put its own in their place.

use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering, PoisonError};

/// The line that sums up the whole process.
pub(crate) const NODE: u32 = 0;
/// The line of whatever belongs to no user.
pub(crate) const SYSTEM: u32 = 1;
/// Bits of a balance that hold the bytes, in two's complement; the rest holds the generation.
const BYTE_BITS: u32 = 40;
pub(crate) const GENERATION_MASK: u32 = (1 << (64 - BYTE_BITS)) - 1;
const BYTE_MASK: u64 = (1 << BYTE_BITS) - 1;

/// Names one account for as long as it is open: its line, and how often that line had been used before.
///
/// A tag that outlives its account is still valid to charge: the ledger sees that the generation has passed and
/// charges the system instead. The generation wraps after 16.7 million uses of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tag(u64);

impl Tag {
    pub(crate) const NODE: Tag = Tag::new(NODE, 0);
    pub(crate) const SYSTEM: Tag = Tag::new(SYSTEM, 0);

    const fn new(line: u32, generation: u32) -> Tag {
        Tag(((generation as u64) << 32) | line as u64)
    }

    pub(crate) const fn from_bits(bits: u64) -> Tag {
        Tag(bits)
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    pub(crate) const fn line(self) -> u32 {
        self.0 as u32
    }

    const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// One account's line, on cache lines of its own. All zeros means: never used, no limit, child of the node. That
/// keeps the table in zeroed memory that costs nothing until it is touched.
#[repr(align(128))]
pub(crate) struct Line {
    /// Generation and bytes in one word, so that a late charge can never reach the line's next owner.
    pub(crate) balance: AtomicU64,
    pub(crate) peak: AtomicU64,
    /// The limit in bytes plus one; 0 for none.
    pub(crate) limit: AtomicU64,
    /// Tag of the account that this one rolls up into.
    pub(crate) parent: AtomicU64,
    /// The next free line, while this one is free.
    pub(crate) next_free: AtomicU32,
}

/// Lines that are free: the chain of returned ones, then those never used.
pub(crate) struct Free {
    pub(crate) head: u32,
    pub(crate) unused: u32,
}

/// The lines, and which of them are free. All zeros, but for `unused`, is an empty one.
pub(crate) struct Table<const LINES: usize> {
    pub(crate) lines: [Line; LINES],
    pub(crate) free: Mutex<Free>,
}

pub(crate) const fn pack(generation: u32, bytes: i64) -> u64 {
    ((generation as u64) << BYTE_BITS) | (bytes as u64 & BYTE_MASK)
}

pub(crate) const fn unpack(balance: u64) -> (u32, i64) {
    let bytes = (balance << (64 - BYTE_BITS)) as i64 >> (64 - BYTE_BITS);
    ((balance >> BYTE_BITS) as u32, bytes)
}

/// Why one line was not charged.
enum Refused {
    /// The account has been closed.
    Closed,
    /// It would hold this much, which is more than its limit.
    Beyond(u64),
}

impl<const LINES: usize> Table<LINES> {
    /// The line of a tag. A tag always comes from `open` or from a constant; the remainder only spares the panic path.
    fn line(&self, tag: Tag) -> &Line {
        &self.lines[tag.line() as usize % LINES]
    }

    /// Adds to one line if its generation is still that of the tag, and if what is there then is within `limit`.
    fn add(&self, tag: Tag, delta: i64, limit: u64) -> Result<(), Refused> {
        let line = self.line(tag);
        let mut balance = line.balance.load(Ordering::Acquire);
        loop {
            let (generation, bytes) = unpack(balance);
            if generation != tag.generation() {
                return Err(Refused::Closed);
            }
            let sum = bytes + delta;
            let held = u64::try_from(sum).unwrap_or(0);
            if held > limit {
                return Err(Refused::Beyond(held));
            }
            match line.balance.compare_exchange_weak(
                balance,
                pack(generation, sum),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => {
                    if delta > 0 {
                        line.peak.fetch_max(held, Ordering::Relaxed);
                    }
                    return Ok(());
                }
                Err(now) => balance = now,
            }
        }
    }

    /// The account above. Read it before a charge: if the line has a new owner by now, the charge fails and this value is
    /// not used.
    fn parent(&self, tag: Tag) -> Tag {
        Tag::from_bits(self.line(tag).parent.load(Ordering::Acquire))
    }

    /// The account just below the node that this one rolls up into, or is.
    pub(crate) fn user(&self, tag: Tag) -> Tag {
        let above = self.parent(tag);
        if above.line() == NODE { tag } else { above }
    }

    /// Charges (or, with a negative delta, credits) an account and all above it. A closed account's share goes to the
    /// system, so that the node always sums up everything.
    pub(crate) fn charge(&self, tag: Tag, delta: i64) {
        let mut tag = tag;
        loop {
            let above = self.parent(tag);
            match self.add(tag, delta, u64::MAX) {
                Err(_) => tag = Tag::SYSTEM,
                Ok(()) if tag.line() == NODE => return,
                Ok(()) => tag = above,
            }
        }
    }

    /// Charges an account and all above it if that passes no limit of theirs, else says which, as (used, limit), and
    /// leaves everything as it was; for a closed account the system. At no moment does anybody see an account beyond its
    /// limit by this.
    pub(crate) fn try_charge(&self, tag: Tag, delta: i64) -> Result<(), (u64, u64)> {
        let above = if tag.line() == NODE {
            None
        } else {
            let above = self.parent(tag);
            // From the top down: should an account be closed meanwhile, it holds nothing that those above do not.
            self.try_charge(above, delta)?;
            Some(above)
        };
        let limit = self.limit(tag);
        let refused = match self.add(tag, delta, limit) {
            Ok(()) => return Ok(()),
            Err(refused) => refused,
        };
        if let Some(above) = above {
            self.charge(above, -delta);
        }
        match refused {
            // As everything else that is allocated for it.
            Refused::Closed => self.try_charge(Tag::SYSTEM, delta),
            Refused::Beyond(used) => Err((used, limit)),
        }
    }

    /// Opens an account below `parent`. `None` when all lines are taken.
    pub(crate) fn open(&self, parent: Tag) -> Option<Tag> {
        let index = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            if free.head != 0 {
                let index = free.head;
                free.head = self.lines[index as usize].next_free.load(Ordering::Relaxed);
                index
            } else if (free.unused as usize) < LINES {
                free.unused += 1;
                free.unused - 1
            } else {
                return None;
            }
        };
        let line = &self.lines[index as usize];
        line.peak.store(0, Ordering::Relaxed);
        line.limit.store(0, Ordering::Relaxed);
        line.parent.store(parent.bits(), Ordering::Release);
        let (generation, _) = unpack(line.balance.load(Ordering::Acquire));
        Some(Tag::new(index, generation))
    }

    /// Closes an account: what it still holds becomes the system's, and its line is free for another.
    pub(crate) fn close(&self, tag: Tag) {
        let line = self.line(tag);
        let parent = Tag::from_bits(line.parent.load(Ordering::Acquire));
        let next = pack((tag.generation() + 1) & GENERATION_MASK, 0);
        let (_, remainder) = unpack(line.balance.swap(next, Ordering::AcqRel));
        if remainder != 0 {
            self.charge(parent, -remainder);
            self.charge(Tag::SYSTEM, remainder);
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        line.next_free.store(free.head, Ordering::Relaxed);
        free.head = tag.line();
    }

    /// What the account holds now; 0 when it is closed, and when frees have been counted before what they free.
    pub(crate) fn bytes(&self, tag: Tag) -> u64 {
        let (generation, bytes) = unpack(self.line(tag).balance.load(Ordering::Acquire));
        if generation == tag.generation() {
            u64::try_from(bytes).unwrap_or(0)
        } else {
            0
        }
    }

    /// The most that the account has held since it was opened.
    pub(crate) fn peak(&self, tag: Tag) -> u64 {
        self.line(tag)
            .peak
            .load(Ordering::Relaxed)
            .max(self.bytes(tag))
    }

    /// Sets the limit; `u64::MAX` means none.
    pub(crate) fn set_limit(&self, tag: Tag, bytes: u64) {
        self.line(tag)
            .limit
            .store(bytes.wrapping_add(1), Ordering::Release);
    }

    /// The limit; `u64::MAX` when there is none.
    pub(crate) fn limit(&self, tag: Tag) -> u64 {
        self.line(tag).limit.load(Ordering::Acquire).wrapping_sub(1)
    }

    /// The least that is left within the limits from this account upwards; without limits for a closed one.
    pub(crate) fn remaining(&self, tag: Tag) -> u64 {
        let (mut tag, mut least) = (tag, u64::MAX);
        loop {
            let above = self.parent(tag);
            let (generation, bytes) = unpack(self.line(tag).balance.load(Ordering::Acquire));
            if generation != tag.generation() {
                return least;
            }
            let used = u64::try_from(bytes).unwrap_or(0);
            least = least.min(self.limit(tag).saturating_sub(used));
            if tag.line() == NODE {
                return least;
            }
            tag = above;
        }
    }

    /// The first account from this one upwards that is over its limit, as (used, limit). A closed account is over.
    pub(crate) fn over(&self, tag: Tag) -> Option<(u64, u64)> {
        let mut tag = tag;
        loop {
            let above = self.parent(tag);
            let (generation, bytes) = unpack(self.line(tag).balance.load(Ordering::Acquire));
            if generation != tag.generation() {
                return Some((0, 0));
            }
            let (used, limit) = (u64::try_from(bytes).unwrap_or(0), self.limit(tag));
            if used > limit {
                return Some((used, limit));
            }
            if tag.line() == NODE {
                return None;
            }
            tag = above;
        }
    }
}
