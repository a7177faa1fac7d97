//! A run that is told to stop while it leaves the list of runs.

use std::sync::OnceLock;

use netra_context::Runtime;
use netra_protocol::id::{RunId, ThreadId, UserId};

use crate::admission::Ticket;
use crate::live::{Live, LiveRuns, Stop, StopReason};

#[test]
fn a_run_is_told_before_it_leaves_the_list_or_whoever_tells_it_knows_better() {
    let runtime = Runtime::new();
    let runs = LiveRuns::new(&runtime);
    let run_id = runtime.new_id(RunId::from_parts);
    let live = Live {
        run_id,
        user_id: runtime.new_id(UserId::from_parts),
        thread_id: runtime.new_id(ThreadId::from_parts),
        ticket: Ticket::default(),
        stop: Stop::default(),
        held: OnceLock::new(),
    };
    let ((), listed) = runs.list(|| Ok::<_, ()>(((), live))).unwrap();
    // As somebody who looks the run up, and comes too late.
    let found = runs.get(run_id).unwrap();
    drop(listed);
    assert!(!runs.tell(run_id, StopReason::Cancelled));
    assert_eq!(found.stop.reason(), None);
}
