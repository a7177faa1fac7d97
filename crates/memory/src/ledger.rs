//! The ledger: the one table of accounts of this process.

use crate::sync::{AtomicU32, AtomicU64, Mutex};
use crate::table::{Free, Line, SYSTEM, Table};

pub(crate) use crate::table::Tag;

/// How many accounts can be open at once, the two fixed ones included.
const LINES: usize = 65_536;

/// In zeroed memory, which costs nothing until it is touched.
pub(crate) static LEDGER: Table<LINES> = Table {
    lines: [const {
        Line {
            balance: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            limit: AtomicU64::new(0),
            parent: AtomicU64::new(0),
            next_free: AtomicU32::new(0),
        }
    }; LINES],
    free: Mutex::new(Free {
        head: 0,
        unused: SYSTEM + 1,
    }),
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{GENERATION_MASK, pack, unpack};

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
        let user = LEDGER.open(Tag::NODE).unwrap();
        LEDGER.charge(user, 500);
        LEDGER.close(user);
        // Lines are handed out last in, first out, but other tests open accounts too: look until it comes back.
        let mut opened = Vec::new();
        let next = loop {
            let tag = LEDGER.open(Tag::NODE).unwrap();
            if tag.line() == user.line() {
                break tag;
            }
            opened.push(tag);
            assert!(opened.len() < 1000, "the line never came back");
        };
        assert_ne!(next, user);
        LEDGER.charge(user, -500);
        LEDGER.charge(user, 70);
        assert_eq!(LEDGER.bytes(next), 0);
        assert_eq!(LEDGER.bytes(user), 0);
        assert_eq!(LEDGER.over(user), Some((0, 0)));
        LEDGER.close(next);
        opened.into_iter().for_each(|tag| LEDGER.close(tag));
    }

    #[test]
    fn closing_credits_the_parent() {
        let user = LEDGER.open(Tag::NODE).unwrap();
        let execution = LEDGER.open(user).unwrap();
        LEDGER.charge(execution, 1000);
        LEDGER.charge(user, 10);
        assert_eq!((LEDGER.bytes(execution), LEDGER.bytes(user)), (1000, 1010));
        LEDGER.close(execution);
        assert_eq!(LEDGER.bytes(user), 10);
        assert_eq!(LEDGER.peak(user), 1010);
        LEDGER.close(user);
    }

    #[test]
    fn executions_of_one_user_are_of_that_user() {
        let user = LEDGER.open(Tag::NODE).unwrap();
        let execution = LEDGER.open(user).unwrap();
        for tag in [user, execution] {
            assert_eq!(LEDGER.user(tag), user);
        }
        assert_eq!(LEDGER.user(Tag::SYSTEM), Tag::SYSTEM);
        LEDGER.close(execution);
        LEDGER.close(user);
    }

    #[test]
    fn an_execution_is_over_when_its_user_is() {
        let user = LEDGER.open(Tag::NODE).unwrap();
        let execution = LEDGER.open(user).unwrap();
        LEDGER.set_limit(user, 100);
        LEDGER.charge(execution, 100);
        assert_eq!(LEDGER.over(execution), None);
        LEDGER.charge(execution, 1);
        assert_eq!(LEDGER.over(execution), Some((101, 100)));
        LEDGER.close(execution);
        LEDGER.close(user);
    }
}
