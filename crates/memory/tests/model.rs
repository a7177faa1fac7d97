//! The table of accounts under the model checker: every order in which threads can open, charge and close accounts
//! whose lines are used again at once.

use loom::sync::Arc;
use loom::thread;

use sync::{AtomicU32, AtomicU64, Mutex, Ordering};
use table::{Free, Line, SYSTEM, Table, Tag, pack};

mod sync {
    //! The model checker's, in place of those of std.

    pub(crate) use loom::sync::Mutex;
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    pub(crate) use std::sync::PoisonError;
}

#[path = "../src/table.rs"]
#[expect(dead_code, reason = "a part of the table is tried here")]
mod table;

/// Every order with at most this many changes of threads where none had to be: more finds no more here, and takes
/// minutes.
fn check(orders: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(orders);
}

/// The node, the system, and lines for two accounts.
type Small = Table<4>;

fn small() -> Arc<Small> {
    let line = || Line {
        balance: AtomicU64::new(0),
        peak: AtomicU64::new(0),
        limit: AtomicU64::new(0),
        parent: AtomicU64::new(0),
        next_free: AtomicU32::new(0),
    };
    Arc::new(Table {
        lines: std::array::from_fn(|_| line()),
        free: Mutex::new(Free {
            head: 0,
            unused: SYSTEM + 1,
        }),
    })
}

/// What the table holds in all, with sign: a free that came before its block counts.
fn balance(table: &Small, tag: Tag) -> u64 {
    table.lines[tag.line() as usize]
        .balance
        .load(Ordering::Acquire)
}

#[test]
fn a_free_that_comes_late_never_reaches_the_lines_next_owner() {
    check(|| {
        let table = small();
        let first = table.open(Tag::NODE).unwrap();
        table.charge(first, 100);
        let late = {
            let table = Arc::clone(&table);
            thread::spawn(move || table.charge(first, -100))
        };
        table.close(first);
        let next = table.open(Tag::NODE).unwrap();
        assert_eq!(next.line(), first.line(), "the line is used again at once");
        table.charge(next, 7);
        assert_eq!(table.bytes(next), 7);
        late.join().unwrap();
        assert_eq!(table.bytes(next), 7);
        table.close(next);
        assert_eq!(balance(&table, Tag::NODE), pack(0, 7));
        assert_eq!(balance(&table, Tag::SYSTEM), pack(0, 7));
    });
}

#[test]
fn what_is_charged_while_its_account_closes_is_the_systems() {
    check(|| {
        let table = small();
        let user = table.open(Tag::NODE).unwrap();
        let run = table.open(user).unwrap();
        let charging = {
            let table = Arc::clone(&table);
            thread::spawn(move || table.charge(run, 50))
        };
        table.close(run);
        charging.join().unwrap();
        assert_eq!(balance(&table, user), pack(0, 0));
        assert_eq!(balance(&table, Tag::SYSTEM), pack(0, 50));
        assert_eq!(balance(&table, Tag::NODE), pack(0, 50));
    });
}

#[test]
fn two_that_ask_at_once_never_pass_the_limit_together_and_nobody_sees_them_try() {
    check(|| {
        let table = small();
        let user = table.open(Tag::NODE).unwrap();
        table.set_limit(user, 100);
        let asking = {
            let table = Arc::clone(&table);
            thread::spawn(move || table.try_charge(user, 60).is_ok())
        };
        let mine = table.try_charge(user, 60).is_ok();
        assert_eq!(table.over(user), None);
        let theirs = asking.join().unwrap();
        assert!(mine || theirs, "one of them fits");
        assert!(!(mine && theirs));
        assert_eq!(table.bytes(user), 60);
        assert_eq!(table.bytes(Tag::NODE), 60);
    });
}

#[test]
fn what_is_asked_for_while_the_account_closes_leaves_nothing_behind() {
    check(|| {
        let table = small();
        let user = table.open(Tag::NODE).unwrap();
        let run = table.open(user).unwrap();
        let asking = {
            let table = Arc::clone(&table);
            thread::spawn(move || {
                table.try_charge(run, 50).unwrap();
                table.charge(run, -50);
            })
        };
        table.close(run);
        asking.join().unwrap();
        for tag in [user, Tag::SYSTEM, Tag::NODE] {
            assert_eq!(balance(&table, tag), pack(0, 0), "{tag:?}");
        }
    });
}

#[test]
fn no_line_has_two_owners() {
    check(|| {
        let table = small();
        let other = {
            let table = Arc::clone(&table);
            thread::spawn(move || {
                let tag = table.open(Tag::NODE).unwrap();
                table.charge(tag, 5);
                assert_eq!(table.bytes(tag), 5);
                table.close(tag);
            })
        };
        let tag = table.open(Tag::NODE).unwrap();
        table.charge(tag, 3);
        assert_eq!(table.bytes(tag), 3);
        table.close(tag);
        other.join().unwrap();
        assert_eq!(balance(&table, Tag::SYSTEM), pack(0, 8));
        assert_eq!(balance(&table, Tag::NODE), pack(0, 8));
    });
}
