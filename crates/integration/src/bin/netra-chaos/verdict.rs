//! The server's log, and whether everybody has what it says.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use netra_client::Method;
use netra_engine::order::check_order;
use netra_integration::{Beside, Request};
use netra_protocol::Event;
use netra_protocol::event::EventKind;
use netra_protocol::id::{RunId, UserId};
use netra_protocol::run::RunStatus;
use netra_store::Entry;

use crate::list::List;
use crate::load::{ABROAD, Accepted};
use crate::watch::{Watcher, Way, Wish};

/// Runs that a user may have at work at once, over all nodes.
const SLOTS: usize = 5;
/// Entries that are read at once.
const PAGE: usize = 5_000;

/// The logs of all users, as they stand in the database.
pub(crate) struct Logs(Vec<Vec<Arc<Entry>>>);

impl Logs {
    /// Reads them beside the server, or after it.
    pub(crate) async fn read(data: &Path, users: &[UserId]) -> Result<Self> {
        let beside = Beside::open(data)?;
        let mut logs = Vec::new();
        for user in users {
            let ctx = beside.user(*user);
            let mut log: Vec<Arc<Entry>> = Vec::new();
            loop {
                let after = log.last().map_or(0, |entry| entry.seq);
                let page = beside.store.events(&ctx, after, PAGE).await?;
                if page.is_empty() {
                    break;
                }
                log.extend(page);
            }
            logs.push(log);
        }
        Ok(Self(logs))
    }

    /// Events in all logs.
    pub(crate) fn events(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }

    /// What a client with this wish is to have.
    pub(crate) fn list(&self, person: usize, way: Way, wish: &Wish) -> Result<List> {
        let mut list = List::default();
        for entry in &self.0[person] {
            let run = !matches!(way, Way::Run(run) if run != entry.run_id);
            let threads = wish.threads.as_ref();
            let thread = threads.is_none_or(|wanted| wanted.contains(&entry.thread_id));
            if run && thread && (wish.deltas || !entry.kind.is_delta()) {
                list.take(&entry.json())?;
            }
        }
        Ok(list)
    }

    /// What is wrong with a client's list.
    pub(crate) fn judge(&self, watcher: &Watcher) -> Result<Option<String>> {
        let right = self.list(watcher.person, watcher.way, &watcher.wish)?;
        let difference = watcher.list.difference(&right);
        Ok(difference.map(|difference| format!("{}: {difference}", watcher.name())))
    }

    /// What is wrong with the runs: one that was accepted is missing or does not end exactly once,
    /// one is there that nobody asked for, or a log breaks the order of the contract.
    pub(crate) fn judge_runs(&self, accepted: &[Accepted]) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        let mut asked: HashSet<RunId> = HashSet::new();
        let mut logs: HashMap<RunId, Vec<Event>> = HashMap::new();
        for entry in self.0.iter().flatten() {
            let events = logs.entry(entry.run_id).or_default();
            events.push(entry.event()?);
        }
        for one in accepted {
            let id = one.run.id;
            if !asked.insert(id) {
                wrong.push(format!("{id} was made by two requests"));
            }
            let events = logs.get(&id).map_or(&[][..], Vec::as_slice);
            if let Err(error) = check_order(events) {
                wrong.push(format!("log of {id}: {error}"));
            } else if let Err(error) = check_end(one, events) {
                wrong.push(format!("{id} of user {}: {error}", one.person));
            }
        }
        let more = logs.keys().filter(|id| !asked.contains(id));
        wrong.extend(more.map(|id| format!("nobody asked for {id}")));
        Ok(wrong)
    }
}

impl Logs {
    /// Users who had more runs at work than they may at some place of their logs. A run is at work from its start to its
    /// end: also while its node is dead and nobody has taken it.
    pub(crate) fn judge_slots(&self) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        for (person, log) in self.0.iter().enumerate() {
            let (mut at_work, mut most) = (0_usize, 0);
            for entry in log {
                match entry.event()?.kind {
                    EventKind::RunStarted { .. } => at_work += 1,
                    kind if kind.is_terminal() => at_work = at_work.saturating_sub(1),
                    _ => {}
                }
                most = most.max(at_work);
            }
            if most > SLOTS {
                wrong.push(format!("user {person} had {most} runs at work"));
            }
        }
        Ok(wrong)
    }
}

/// What is wrong with what was asked for outside: a turn under two keys is done twice there, one of no run for nobody,
/// and what a run says was done must have been asked for. How often a turn came under its key does not matter.
pub(crate) fn judge_effects(asked: &[Request], accepted: &[Accepted]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut keys: HashMap<(String, u64), &str> = HashMap::new();
    let turns = asked
        .iter()
        .filter(|request| request.method == Method::POST);
    for request in turns {
        let run = request.turn["run_id"].as_str().unwrap_or_default();
        let turn = request.turn["turn"].as_u64().unwrap_or_default();
        let key = request.header("idempotency-key").unwrap_or_default();
        let first = *keys.entry((run.to_owned(), turn)).or_insert(key);
        if key.is_empty() || key != first {
            wrong.push(format!(
                "turn {turn} of {run} was asked for as {first} and as {key}"
            ));
        }
    }
    let own = accepted.iter().filter(|one| one.run.agent == ABROAD);
    let runs: HashSet<String> = own.map(|one| one.run.id.to_string()).collect();
    for (run, turn) in keys.keys() {
        if !runs.contains(run) || *turn != 1 {
            wrong.push(format!("turn {turn} of {run} was asked for, for nobody"));
        }
    }
    let done: HashSet<&String> = keys.keys().map(|(run, _)| run).collect();
    let not_done = runs.iter().filter(|run| !done.contains(run));
    wrong.extend(not_done.map(|run| format!("{run} ended without its turn")));
    wrong
}

/// Whether a run ended as its log says, and with what it was to give.
fn check_end(one: &Accepted, events: &[Event]) -> Result<(), String> {
    let Accepted { run, text, .. } = one;
    let told = events.last().map(|event| &event.kind);
    let same = match (run.status, told) {
        (RunStatus::Completed, Some(EventKind::RunCompleted { result, .. })) => {
            run.result.as_ref() == Some(result)
        }
        (RunStatus::Failed, Some(EventKind::RunFailed { error, .. })) => {
            run.error.as_ref() == Some(error)
        }
        (RunStatus::Cancelled, Some(EventKind::RunCancelled { .. }))
        | (RunStatus::TimedOut, Some(EventKind::RunTimedOut { .. })) => true,
        _ => false,
    };
    if !same {
        return Err(format!("it is {:?}, its log says {told:?}", run.status));
    }
    if run.status != RunStatus::Completed {
        return Err(format!("{:?}: {:?}", run.status, run.error));
    }
    let said = run
        .result
        .as_ref()
        .and_then(|result| result["text"].as_str());
    if said == Some(text) {
        Ok(())
    } else {
        Err(format!(
            "its result is not what it was given: {:?}",
            run.result
        ))
    }
}
