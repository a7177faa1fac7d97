//! Every interleaving of a writer and a subscription, in small: commits, the fan-out after each,
//! the mailbox opened anew, the log read, the mailbox taken.

use std::sync::Arc;

use netra_context::memory::Account;
use netra_context::{BackgroundKind, Principal, Rights, Runtime, UserExecutionContext};
use netra_protocol::Event;
use netra_protocol::account::{Plan, Role};
use netra_protocol::event::EventKind;
use netra_protocol::id::{EventId, MessageId, RunId, ThreadId};
use netra_protocol::limits::Limits;
use netra_store::{Changes, Config, Entry, NewRun, NewUser, Store, Target};

use super::{Course, Mode};
use crate::filter::Filter;
use crate::hub::Hub;
use crate::mailbox::{MAX_BYTES, Mailbox, Taken};
use crate::subscription::Delivery;

/// How many entries each commit of the writer has.
const COMMITS: [usize; 3] = [1, 2, 1];
const ENTRIES: usize = 4;
/// Entries of the log that are read at once.
const PAGE: usize = 2;

/// Real entries: thoughts, and a piece of a message in every second place.
async fn entries() -> Vec<Arc<Entry>> {
    let dir = tempfile::tempdir().unwrap();
    let runtime = Runtime::new();
    let config = Config {
        dir: dir.path().to_owned(),
        audit_key: netra_store::AuditKey::new([7; 32]),
        turn_wait: netra_store::TURN_WAIT,
    };
    let store = Store::open(&runtime, config, Hub::new()).unwrap();
    let console = UserExecutionContext::for_background(&runtime, BackgroundKind::Console);
    let new = NewUser {
        name: "alice".into(),
        role: Role::User,
        plan: Plan::Free,
        password_hash: None,
    };
    let user = store.user_create(&console, new).await.unwrap();
    let principal = Principal {
        user_id: user.id,
        role: user.role,
        plan: user.plan,
        groups: user.groups.clone().into(),
        rights: Rights::of_role(user.role),
        limits: Arc::new(Limits::default()),
        session: None,
    };
    let ctx = UserExecutionContext::for_test(&runtime, principal);
    let target = Target::New {
        id: runtime.new_id(ThreadId::from_parts),
        title: String::new(),
    };
    let message_id = runtime.new_id(MessageId::from_parts);
    let new = NewRun {
        id: runtime.new_id(RunId::from_parts),
        agent: "echo".into(),
        agent_hash: String::new(),
        input: serde_json::json!("x"),
        files: Vec::new(),
        metadata: serde_json::Map::new(),
        timeout_ms: 1_000,
        deadline: runtime.now(),
        input_message_id: message_id,
        started: true,
        over_nodes: None,
        events: Vec::new(),
    };
    let run = store
        .run_create(&ctx, target, new, None)
        .await
        .unwrap()
        .value;
    let kind = |number: usize| match number % 2 {
        0 => EventKind::AgentThinking {
            message: "hm".into(),
            progress: None,
        },
        _ => EventKind::MessageDelta {
            message_id,
            delta: "x".into(),
        },
    };
    let event = |number| Event {
        event_id: runtime.new_id(EventId::from_parts),
        ts: runtime.now(),
        thread_id: run.thread_id,
        run_id: run.id,
        agent: None,
        step: None,
        kind: kind(number),
    };
    let events = (0..ENTRIES).map(event).collect();
    store
        .commit(&ctx, &run, Changes::default(), events)
        .await
        .unwrap();
    store.events(&ctx, 0, ENTRIES).await.unwrap()
}

/// What the writer does next.
#[derive(Debug, Clone, Copy)]
enum Write {
    /// So many entries are in the log from now on.
    Commit(usize),
    /// This entry goes into the mailbox.
    Put(usize),
    /// The mailbox is told that the log goes up to this entry.
    Tell(usize),
}

fn writes() -> Vec<Write> {
    let mut writes = Vec::new();
    let mut committed = 0;
    for commit in COMMITS {
        let first = committed;
        committed += commit;
        writes.push(Write::Commit(committed));
        writes.extend((first..committed).map(Write::Put));
    }
    writes
}

/// What two other nodes commit, as it is heard here beside what this one commits: late, in another order, twice, or not
/// at all before it is looked for.
fn heard() -> [Vec<Write>; 4] {
    use Write::{Commit, Put, Tell};
    [
        vec![
            Commit(1),
            Put(0),
            Commit(3),
            Commit(4),
            Put(3),
            Put(1),
            Put(2),
        ],
        vec![
            Commit(1),
            Put(0),
            Commit(3),
            Put(2),
            Put(1),
            Commit(4),
            Put(3),
        ],
        vec![
            Commit(2),
            Put(0),
            Put(1),
            Put(0),
            Commit(4),
            Put(2),
            Put(1),
            Put(3),
        ],
        vec![
            Commit(1),
            Put(0),
            Commit(3),
            Put(1),
            Commit(4),
            Tell(3),
            Put(2),
        ],
    ]
}

struct World<'a> {
    entries: &'a [Arc<Entry>],
    committed: usize,
    mailbox: Mailbox,
    course: Course,
    /// In a replay: the mailbox is open anew, and the log is to be read.
    opened: bool,
    sent: Vec<Delivery>,
}

impl<'a> World<'a> {
    fn new(entries: &'a [Arc<Entry>], filter: Filter, room: usize) -> Self {
        Self {
            entries,
            committed: 0,
            mailbox: Mailbox::with_room(filter, room, MAX_BYTES),
            course: Course::new(0),
            opened: false,
            sent: Vec::new(),
        }
    }

    fn write(&mut self, write: Write) {
        match write {
            Write::Commit(committed) => self.committed = committed,
            Write::Put(index) => self.mailbox.put(&self.entries[index]),
            Write::Tell(index) => self.mailbox.missed(self.entries[index].seq),
        }
    }

    /// The subscription's next step, as `Subscription` takes it; false when it would wait.
    fn read(&mut self) -> bool {
        let filter = self.mailbox.filter().clone();
        match self.course.mode {
            Mode::Replay if !self.opened => {
                self.mailbox.reopen();
                self.opened = true;
                true
            }
            Mode::Replay => {
                let log = self.entries[..self.committed].iter();
                let after = log.filter(|entry| entry.seq > self.course.cursor());
                let page: Vec<_> = after.take(PAGE).cloned().collect();
                if page.is_empty() {
                    self.mailbox.read_up_to(self.course.cursor());
                }
                self.sent.extend(self.course.take_page(page, &filter));
                self.opened = false;
                true
            }
            Mode::Live => {
                let before = (self.course.cursor(), self.course.mode);
                self.sent
                    .extend(self.course.take(self.mailbox.take(), &filter));
                (self.course.cursor(), self.course.mode) != before
            }
        }
    }

    fn check(&self, schedule: &[bool]) {
        let mut last = 0;
        let mut numbers = Vec::new();
        for delivery in &self.sent {
            match delivery {
                Delivery::Position { seq } => {
                    assert!(*seq >= last, "{schedule:?}: the cursor goes back");
                    last = *seq;
                }
                Delivery::Event { prev, entry } => {
                    assert_eq!(
                        *prev, last,
                        "{schedule:?}: a gap that is none, or one untold"
                    );
                    last = entry.seq;
                    numbers.push(entry.seq);
                }
            }
        }
        let wanted = self
            .entries
            .iter()
            .filter(|e| self.mailbox.filter().passes(e));
        let wanted: Vec<u64> = wanted.map(|entry| entry.seq).collect();
        assert_eq!(numbers, wanted, "{schedule:?}");
        assert_eq!(self.course.cursor(), ENTRIES as u64, "{schedule:?}");
    }
}

/// Carries a schedule out: true is the writer's turn. What is left of either follows. Gives how
/// many turns there were in which both could have gone.
fn carry_out(mut world: World<'_>, writes: &[Write], schedule: &[bool]) -> usize {
    let mut writes = writes.iter().copied();
    let mut used = 0;
    for &writer in schedule {
        if writer {
            let Some(write) = writes.next() else {
                break;
            };
            world.write(write);
        } else if !world.read() {
            // It waits for the mailbox: only the writer can go on.
            break;
        }
        used += 1;
    }
    for write in writes {
        world.write(write);
    }
    // Far more turns than it can need.
    for _ in 0..100 {
        world.read();
    }
    world.check(schedule);
    used
}

#[tokio::test]
async fn no_interleaving_loses_or_repeats_an_event() {
    let entries = entries().await;
    try_all(&entries, &writes());
}

#[tokio::test]
async fn what_other_nodes_commit_is_neither_lost_nor_repeated_however_it_is_heard() {
    let entries = entries().await;
    for writes in heard() {
        try_all(&entries, &writes);
    }
}

fn try_all(entries: &[Arc<Entry>], writes: &[Write]) {
    let whole_only = Filter {
        deltas: false,
        ..Filter::all()
    };
    let turns = writes.len() + 6;
    for filter in [Filter::all(), whole_only] {
        for room in 1..=ENTRIES {
            let mut tried = 0_u32;
            let mut bits = 0_u32;
            while bits < 1 << turns {
                let schedule: Vec<bool> = (0..turns)
                    .map(|turn| bits >> (turns - 1 - turn) & 1 == 1)
                    .collect();
                let world = World::new(entries, filter.clone(), room);
                let used = carry_out(world, writes, &schedule);
                tried += 1;
                // Schedules that differ only in turns that were not used are the same.
                let same = 1 << (turns - used.min(turns));
                bits = (bits / same + 1) * same;
            }
            assert!(tried > 100, "{tried} interleavings");
        }
    }
}

#[tokio::test]
async fn an_entry_of_another_user_is_stopped_at_the_door_and_counted() {
    let hub = Hub::new();
    let entries = entries().await;
    let owner = entries[0].user_id;
    let other = netra_protocol::id::UserId::from_parts(1, 1);
    let all = Filter {
        threads: None,
        run: None,
        deltas: true,
    };
    let (own, foreign) = (hub.open(owner, all.clone()), hub.open(other, all));
    assert!(own.owns(&entries[0]) && hub.foreign_events() == 0);
    assert!(!foreign.owns(&entries[0]));
    assert_eq!(hub.foreign_events(), 1);
}

#[tokio::test]
async fn a_mailbox_that_its_listener_has_no_memory_for_loses_what_waits_and_holds_nothing() {
    let entries = entries().await;
    let account = Account::user();
    account.set_limit(entries[0].bytes() as u64 + 1);
    let mailbox = {
        let _entered = account.scope().enter();
        Mailbox::new(Filter::all())
    };
    mailbox.put(&entries[0]);
    assert_eq!(account.current_bytes(), entries[0].bytes() as u64);
    mailbox.put(&entries[1]);
    assert!(matches!(mailbox.take(), Taken::Lagging));
    assert_eq!(account.current_bytes(), 0);
}
