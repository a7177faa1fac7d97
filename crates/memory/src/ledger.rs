//! The ledger: one line per account, addressed by tags, changed only by atomic operations and without allocating.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// How many accounts can be open at once, the two fixed ones included.
const LINES: usize = 65_536;
/// The line that sums up the whole process.
const NODE: u32 = 0;
/// The line of whatever belongs to no user.
const SYSTEM: u32 = 1;
/// Bits of a balance that hold the bytes, in two's complement; the rest holds the generation.
const BYTE_BITS: u32 = 40;
const GENERATION_MASK: u32 = (1 << (64 - BYTE_BITS)) - 1;
const BYTE_MASK: u64 = (1 << BYTE_BITS) - 1;

/// Names one account for as long as it is open: its line, and how often that line had been used before.
///
/// A tag that outlives its account is still valid to charge: the ledger sees that the generation has passed and
/// charges the system instead. The generation wraps after 16.7 million uses of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    const fn line(self) -> u32 {
        self.0 as u32
    }

    const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// One account's line, on cache lines of its own. All zeros means: never used, no limit, child of the node. That
/// keeps the table in zeroed memory that costs nothing until it is touched.
#[repr(align(128))]
struct Line {
    /// Generation and bytes in one word, so that a late charge can never reach the line's next owner.
    balance: AtomicU64,
    peak: AtomicU64,
    /// The limit in bytes plus one; 0 for none.
    limit: AtomicU64,
    /// Tag of the account that this one rolls up into.
    parent: AtomicU64,
    /// The next free line, while this one is free.
    next_free: AtomicU32,
}

impl Line {
    const fn new() -> Line {
        Line {
            balance: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            limit: AtomicU64::new(0),
            parent: AtomicU64::new(0),
            next_free: AtomicU32::new(0),
        }
    }
}

/// Lines that are free: the chain of returned ones, then those never used.
struct Free {
    head: u32,
    unused: u32,
}

static TABLE: [Line; LINES] = [const { Line::new() }; LINES];
static FREE: Mutex<Free> = Mutex::new(Free {
    head: 0,
    unused: SYSTEM + 1,
});

const fn pack(generation: u32, bytes: i64) -> u64 {
    ((generation as u64) << BYTE_BITS) | (bytes as u64 & BYTE_MASK)
}

const fn unpack(balance: u64) -> (u32, i64) {
    let bytes = (balance << (64 - BYTE_BITS)) as i64 >> (64 - BYTE_BITS);
    ((balance >> BYTE_BITS) as u32, bytes)
}

/// The line of a tag. A tag always comes from `open` or from a constant; the remainder only spares the panic path.
fn line(tag: Tag) -> &'static Line {
    &TABLE[tag.line() as usize % LINES]
}

/// Why one line was not charged.
enum Refused {
    /// The account has been closed.
    Closed,
    /// It would hold this much, which is more than its limit.
    Beyond(u64),
}

/// Adds to one line if its generation is still that of the tag, and if what is there then is within `limit`.
fn add(tag: Tag, delta: i64, limit: u64) -> Result<(), Refused> {
    let line = line(tag);
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
fn parent(tag: Tag) -> Tag {
    Tag::from_bits(line(tag).parent.load(Ordering::Acquire))
}

/// Charges (or, with a negative delta, credits) an account and all above it. A closed account's share goes to the
/// system, so that the node always sums up everything.
pub(crate) fn charge(tag: Tag, delta: i64) {
    let mut tag = tag;
    loop {
        let above = parent(tag);
        match add(tag, delta, u64::MAX) {
            Err(_) => tag = Tag::SYSTEM,
            Ok(()) if tag.line() == NODE => return,
            Ok(()) => tag = above,
        }
    }
}

/// Charges an account and all above it if that passes no limit of theirs, else says which, as (used, limit), and
/// leaves everything as it was; for a closed account the system. At no moment does anybody see an account beyond its limit by this.
pub(crate) fn try_charge(tag: Tag, delta: i64) -> Result<(), (u64, u64)> {
    let above = if tag.line() == NODE {
        None
    } else {
        let above = parent(tag);
        // From the top down: should an account be closed meanwhile, it holds nothing that those above do not.
        try_charge(above, delta)?;
        Some(above)
    };
    let limit = limit(tag);
    let refused = match add(tag, delta, limit) {
        Ok(()) => return Ok(()),
        Err(refused) => refused,
    };
    if let Some(above) = above {
        charge(above, -delta);
    }
    match refused {
        // As everything else that is allocated for it.
        Refused::Closed => try_charge(Tag::SYSTEM, delta),
        Refused::Beyond(used) => Err((used, limit)),
    }
}

/// Opens an account below `parent`. `None` when all lines are taken.
pub(crate) fn open(parent: Tag) -> Option<Tag> {
    let index = {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        if free.head != 0 {
            let index = free.head;
            free.head = TABLE[index as usize].next_free.load(Ordering::Relaxed);
            index
        } else if (free.unused as usize) < LINES {
            free.unused += 1;
            free.unused - 1
        } else {
            return None;
        }
    };
    let line = &TABLE[index as usize];
    line.peak.store(0, Ordering::Relaxed);
    line.limit.store(0, Ordering::Relaxed);
    line.parent.store(parent.bits(), Ordering::Release);
    let (generation, _) = unpack(line.balance.load(Ordering::Acquire));
    Some(Tag::new(index, generation))
}

/// Closes an account: what it still holds becomes the system's, and its line is free for another.
pub(crate) fn close(tag: Tag) {
    let line = line(tag);
    let parent = Tag::from_bits(line.parent.load(Ordering::Acquire));
    let next = pack((tag.generation() + 1) & GENERATION_MASK, 0);
    let (_, remainder) = unpack(line.balance.swap(next, Ordering::AcqRel));
    if remainder != 0 {
        charge(parent, -remainder);
        charge(Tag::SYSTEM, remainder);
    }
    let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    line.next_free.store(free.head, Ordering::Relaxed);
    free.head = tag.line();
}

/// What the account holds now; 0 when it is closed, and when frees have been counted before what they free.
pub(crate) fn bytes(tag: Tag) -> u64 {
    let (generation, bytes) = unpack(line(tag).balance.load(Ordering::Acquire));
    if generation == tag.generation() {
        u64::try_from(bytes).unwrap_or(0)
    } else {
        0
    }
}

/// The most that the account has held since it was opened.
pub(crate) fn peak(tag: Tag) -> u64 {
    line(tag).peak.load(Ordering::Relaxed).max(bytes(tag))
}

/// Sets the limit; `u64::MAX` means none.
pub(crate) fn set_limit(tag: Tag, bytes: u64) {
    line(tag)
        .limit
        .store(bytes.wrapping_add(1), Ordering::Release);
}

/// The limit; `u64::MAX` when there is none.
pub(crate) fn limit(tag: Tag) -> u64 {
    line(tag).limit.load(Ordering::Acquire).wrapping_sub(1)
}

/// The first account from this one upwards that is over its limit, as (used, limit). A closed account is over.
pub(crate) fn over(tag: Tag) -> Option<(u64, u64)> {
    let mut tag = tag;
    loop {
        let above = parent(tag);
        let (generation, bytes) = unpack(line(tag).balance.load(Ordering::Acquire));
        if generation != tag.generation() {
            return Some((0, 0));
        }
        let (used, limit) = (u64::try_from(bytes).unwrap_or(0), limit(tag));
        if used > limit {
            return Some((used, limit));
        }
        if tag.line() == NODE {
            return None;
        }
        tag = above;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_balance_keeps_sign_and_generation() {
        for bytes in [0, 1, -1, 1 << 38, -(1 << 38)] {
            for generation in [0, 1, GENERATION_MASK] {
                assert_eq!(unpack(pack(generation, bytes)), (generation, bytes));
            }
        }
    }

    #[test]
    fn a_late_charge_never_reaches_the_next_owner_of_the_line() {
        let user = open(Tag::NODE).unwrap();
        charge(user, 500);
        close(user);
        // Lines are handed out last in, first out, but other tests open accounts too: look until it comes back.
        let mut opened = Vec::new();
        let next = loop {
            let tag = open(Tag::NODE).unwrap();
            if tag.line() == user.line() {
                break tag;
            }
            opened.push(tag);
            assert!(opened.len() < 1000, "the line never came back");
        };
        assert_ne!(next, user);
        charge(user, -500);
        charge(user, 70);
        assert_eq!(bytes(next), 0);
        assert_eq!(bytes(user), 0);
        assert_eq!(over(user), Some((0, 0)));
        close(next);
        opened.into_iter().for_each(close);
    }

    #[test]
    fn closing_credits_the_parent() {
        let user = open(Tag::NODE).unwrap();
        let execution = open(user).unwrap();
        charge(execution, 1000);
        charge(user, 10);
        assert_eq!((bytes(execution), bytes(user)), (1000, 1010));
        close(execution);
        assert_eq!(bytes(user), 10);
        assert_eq!(peak(user), 1010);
        close(user);
    }

    #[test]
    fn an_execution_is_over_when_its_user_is() {
        let user = open(Tag::NODE).unwrap();
        let execution = open(user).unwrap();
        set_limit(user, 100);
        charge(execution, 100);
        assert_eq!(over(execution), None);
        charge(execution, 1);
        assert_eq!(over(execution), Some((101, 100)));
        close(execution);
        close(user);
    }
}
