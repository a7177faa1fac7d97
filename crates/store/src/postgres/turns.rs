//! The order of fan-out: each user's events in the order of their numbers, whichever connection committed first.
//!
//! A transaction takes its turn while it holds the row of the user's last number, so turns come in the order of
//! numbers. After its commit it fans out when all before it have, or whoever is before it does that in its place.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use netra_protocol::id::UserId;
use parking_lot::{Condvar, Mutex};

use crate::log::{Entry, Fanout};

pub(super) struct Turns {
    fanout: Arc<dyn Fanout>,
    lines: Mutex<HashMap<UserId, VecDeque<Turn>>>,
    told: Condvar,
}

struct Turn {
    first_seq: u64,
    /// None while the transaction goes on.
    entries: Option<Vec<Arc<Entry>>>,
}

/// Places in lines, given up when they are dropped.
pub(crate) struct Place {
    turns: Arc<Turns>,
    held: Vec<(UserId, u64)>,
}

impl Turns {
    pub(super) fn new(fanout: Arc<dyn Fanout>) -> Arc<Self> {
        Arc::new(Self {
            fanout,
            lines: Mutex::default(),
            told: Condvar::new(),
        })
    }

    /// A place for a transaction that has taken no numbers yet.
    pub(super) fn place(self: &Arc<Self>) -> Place {
        Place {
            turns: Arc::clone(self),
            held: Vec::new(),
        }
    }

    /// Tells what stands first in a line and is committed.
    fn tell(&self, line: &mut VecDeque<Turn>) {
        while let Some(entries) = line.front_mut().and_then(|turn| turn.entries.take()) {
            if !entries.is_empty() {
                self.fanout.committed(&entries);
            }
            line.pop_front();
        }
    }

    fn settle(&self, user: UserId, first_seq: u64, entries: Vec<Arc<Entry>>) {
        let mut lines = self.lines.lock();
        let Some(line) = lines.get_mut(&user) else {
            return;
        };
        if let Some(turn) = line.iter_mut().find(|turn| turn.first_seq == first_seq) {
            turn.entries = Some(entries);
        }
        self.tell(line);
        if line.is_empty() {
            lines.remove(&user);
        }
        self.told.notify_all();
    }

    fn is_told(lines: &HashMap<UserId, VecDeque<Turn>>, user: UserId, first_seq: u64) -> bool {
        let line = lines.get(&user);
        line.is_none_or(|line| line.iter().all(|turn| turn.first_seq != first_seq))
    }
}

impl Place {
    /// Takes a turn in this user's line, for numbers from this one on. To be called while the row of the user's last
    /// number is locked: until the transaction ends nobody else gets one.
    pub(crate) fn take(&mut self, user: UserId, first_seq: u64) {
        if self.held.iter().any(|(of, _)| *of == user) {
            return;
        }
        let turn = Turn {
            first_seq,
            entries: None,
        };
        self.turns
            .lines
            .lock()
            .entry(user)
            .or_default()
            .push_back(turn);
        self.held.push((user, first_seq));
    }

    /// What was appended is durable: returns when it is fanned out.
    pub(super) fn committed(mut self, appended: &[Arc<Entry>]) {
        let held = std::mem::take(&mut self.held);
        if held.is_empty() {
            self.turns.fanout.committed(&[]);
            return;
        }
        for (user, first_seq) in &held {
            let own = appended.iter().filter(|entry| entry.user_id == *user);
            self.turns.settle(*user, *first_seq, own.cloned().collect());
        }
        let mut lines = self.turns.lines.lock();
        for (user, first_seq) in held {
            while !Turns::is_told(&lines, user, first_seq) {
                self.turns.told.wait(&mut lines);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for (user, first_seq) in std::mem::take(&mut self.held) {
            self.turns.settle(user, first_seq, Vec::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use netra_protocol::event::EventKind;
    use netra_protocol::id::{RunId, ThreadId};
    use netra_protocol::{Event, Timestamp, id::EventId};

    use super::*;
    use crate::log::Encoded;

    #[derive(Default)]
    struct Seen(Mutex<Vec<u64>>);

    impl Fanout for Seen {
        fn committed(&self, entries: &[Arc<Entry>]) {
            self.0.lock().extend(entries.iter().map(|entry| entry.seq));
        }
    }

    fn user() -> UserId {
        UserId::from_parts(1, 1)
    }

    fn entry(seq: u64) -> Arc<Entry> {
        let event = Event {
            event_id: EventId::from_parts(1, 1),
            ts: Timestamp::from_micros(0),
            thread_id: ThreadId::from_parts(1, 1),
            run_id: RunId::from_parts(1, 1),
            agent: None,
            step: None,
            kind: EventKind::AgentThinking {
                message: String::new(),
                progress: None,
            },
        };
        Arc::new(Encoded::new(&event).unwrap().numbered(user(), seq))
    }

    #[test]
    fn who_commits_first_does_not_tell_first() {
        let seen = Arc::new(Seen::default());
        let turns = Turns::new(seen.clone());
        let (mut first, mut second) = (turns.place(), turns.place());
        first.take(user(), 1);
        second.take(user(), 3);
        std::thread::scope(|scope| {
            let later = scope.spawn(move || second.committed(&[entry(3)]));
            // It waits for the one before it, so it cannot have ended.
            assert!(seen.0.lock().is_empty());
            first.committed(&[entry(1), entry(2)]);
            later.join().unwrap();
        });
        assert_eq!(*seen.0.lock(), [1, 2, 3]);
        assert!(turns.lines.lock().is_empty());
    }

    #[test]
    fn who_gives_up_holds_nobody_up() {
        let seen = Arc::new(Seen::default());
        let turns = Turns::new(seen.clone());
        let (mut first, mut second) = (turns.place(), turns.place());
        first.take(user(), 1);
        drop(first);
        second.take(user(), 1);
        second.committed(&[entry(1)]);
        assert_eq!(*seen.0.lock(), [1]);
    }
}
