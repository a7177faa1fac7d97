//! Memory promised to scripts: all workers of a user together can never fill more than the user has left.

use std::collections::HashMap;
use std::sync::Arc;

use netra_memory::Scope;
use parking_lot::Mutex;

use crate::meter::Meter;
use crate::turns::Owner;

/// Which part of what is left one worker is promised at the most. The first gets the usual limit where there is plenty,
/// and where there is little the next ones get something too.
const PART: u64 = 3;
/// A smaller promise is no use to a script: it gets this much as long as it is there.
const LEAST: u64 = 8 << 20;

/// What the workers of each user may fill, by when they began.
#[derive(Clone, Debug, Default)]
pub(crate) struct Room(Arc<Mutex<HashMap<Owner, Vec<Given>>>>);

#[derive(Debug)]
struct Given {
    bytes: u64,
    meter: Meter,
}

/// Memory that one worker may fill. Dropping it gives the promise back.
#[derive(Debug)]
pub(crate) struct Promise {
    room: Room,
    owner: Owner,
    meter: Meter,
    pub(crate) bytes: u64,
}

impl Room {
    /// A part of what the scope has left beside what was promised to others, `most` at the most. The meter reads the
    /// worker: what it holds is in the scope's account already, and without one nothing can be filled.
    pub(crate) fn promise(&self, scope: Scope, owner: Owner, meter: &Meter, most: u64) -> Promise {
        let remaining = scope.remaining();
        // The table is everybody's.
        let _system = Scope::system().enter();
        let mut all = self.0.lock();
        let given = all.entry(owner).or_default();
        let at_work = given
            .iter()
            .filter(|given| given.meter.process_id().is_some());
        let unfilled = at_work.map(|given| given.bytes.saturating_sub(given.meter.counted()));
        let free = remaining.saturating_sub(unfilled.sum());
        let bytes = most.min((free / PART).max(LEAST.min(free)));
        given.push(Given {
            bytes,
            meter: meter.clone(),
        });
        Promise {
            room: self.clone(),
            owner,
            meter: meter.clone(),
            bytes,
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let mut all = self.room.0.lock();
        if let Some(given) = all.get_mut(&self.owner) {
            given.retain(|given| !given.meter.is(&self.meter));
            if given.is_empty() {
                all.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use netra_memory::Account;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// The meter of a worker.
    fn meter() -> Meter {
        let meter = Meter::default();
        meter.set(Some(1));
        meter
    }

    #[test]
    fn however_many_workers_begin_what_they_are_promised_fits_into_what_is_left() {
        for (limit, first) in [(1024 * MIB, 128 * MIB), (256 * MIB, 256 * MIB / 3)] {
            let account = Account::user();
            account.set_limit(limit);
            let room = Room::default();
            let promise = || room.promise(account.scope(), None, &meter(), 128 * MIB);
            let all: Vec<Promise> = (0..100).map(|_| promise()).collect();
            let sum: u64 = all.iter().map(|promise| promise.bytes).sum();
            assert_eq!(all[0].bytes, first);
            assert!(sum <= limit, "{sum} of {limit}");
            assert!(all[4].bytes >= LEAST);
            assert_eq!(all[99].bytes, 0);
            drop(all);
            assert!(room.0.lock().is_empty(), "a promise is kept");
            assert_eq!(promise().bytes, first);
        }
    }

    #[test]
    fn what_a_worker_holds_counts_once_and_what_it_was_promised_only_while_it_is_there() {
        let account = Account::user();
        account.set_limit(300 * MIB);
        let room = Room::default();
        let promise = |meter: &Meter| room.promise(account.scope(), None, meter, 100 * MIB);
        let (first, worker) = (meter(), account.add_external());
        let one = promise(&first);
        assert_eq!(one.bytes, 100 * MIB);
        assert_eq!(
            promise(&meter()).bytes,
            200 * MIB / 3,
            "it may fill its room"
        );
        worker.set(100 * MIB);
        first.count_as(100 * MIB);
        assert_eq!(promise(&meter()).bytes, 200 * MIB / 3, "it has filled it");
        worker.set(0);
        first.set(None);
        assert_eq!(promise(&meter()).bytes, 100 * MIB, "its worker was taken");
    }
}
