//! What can be wrong with a log, told from the log and what is known of its runs.

use std::collections::{HashMap, HashSet};

use netra_engine::order::{check_order, check_prefix};
use netra_protocol::Event;
use netra_protocol::id::{EventId, RunId};
use netra_protocol::run::RunStatus;
use netra_store::inspect::{Deletion, LoggedRun};
use serde::Serialize;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// The user's name.
    pub(super) user: String,
    /// The run, where it is one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) run: Option<RunId>,
    /// The number, where it is at one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seq: Option<u64>,
    /// In words.
    pub(super) problem: String,
}

/// Reads one user's log in order and notes what is wrong.
pub(super) struct Judge {
    user: String,
    last: u64,
    ids: HashSet<EventId>,
    events: HashMap<RunId, Vec<(u64, Event)>>,
    gaps: Vec<(u64, u64)>,
    read: u64,
    pub(super) findings: Vec<Finding>,
}

impl Judge {
    pub(super) fn new(user: &str) -> Self {
        Self {
            user: user.to_owned(),
            last: 0,
            ids: HashSet::new(),
            events: HashMap::new(),
            gaps: Vec::new(),
            read: 0,
            findings: Vec::new(),
        }
    }

    /// How many events were read.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    fn find(&mut self, run: Option<RunId>, seq: Option<u64>, problem: impl Into<String>) {
        self.findings.push(Finding {
            user: self.user.clone(),
            run,
            seq,
            problem: problem.into(),
        });
    }

    /// Takes the next event of the log.
    pub(super) fn take(&mut self, seq: u64, event: Event) {
        self.read += 1;
        let run = event.run_id;
        if seq <= self.last {
            let words = format!("its number comes after {}", self.last);
            self.find(Some(run), Some(seq), words);
        } else if seq > self.last + 1 {
            self.gaps.push((self.last + 1, seq - 1));
        }
        self.last = self.last.max(seq);
        if !self.ids.insert(event.event_id) {
            self.find(Some(run), Some(seq), "its event_id was there before");
        }
        self.events.entry(run).or_default().push((seq, event));
    }

    /// The log is at its end: is all there that was given a number, and is each run whole?
    pub(super) fn conclude(
        &mut self,
        (oldest, latest): (u64, u64),
        runs: &[LoggedRun],
        deletions: &[Deletion],
    ) {
        if self.last > latest {
            let words = format!("the log ends with {latest}");
            self.find(None, Some(self.last), words);
        } else if self.last < latest {
            self.gaps.push((self.last + 1, latest));
        }
        self.judge_gaps(runs, deletions);
        for run in runs {
            self.judge_run(run, oldest);
        }
        let known: HashSet<RunId> = runs.iter().map(|run| run.id).collect();
        let strangers: Vec<RunId> = self
            .events
            .keys()
            .filter(|id| !known.contains(id))
            .copied()
            .collect();
        for run in strangers {
            self.find(
                Some(run),
                None,
                "there are events of a run that is not there",
            );
        }
    }

    /// Every number that is missing has a reason, and so many are missing as the reasons say.
    fn judge_gaps(&mut self, runs: &[LoggedRun], deletions: &[Deletion]) {
        let missing: u64 = self.gaps.iter().map(|(first, last)| last - first + 1).sum();
        let deleted: u64 = deletions.iter().map(|deletion| deletion.events).sum();
        let folded: u64 = runs.iter().map(|run| run.folded).sum();
        if missing != deleted + folded {
            let words =
                format!("{missing} events are missing; {deleted} were deleted and {folded} folded");
            self.find(None, None, words);
        }
        let spans: Vec<(u64, u64)> = deletions
            .iter()
            .map(|deletion| (deletion.after_seq, deletion.through))
            .chain(
                runs.iter()
                    .filter(|run| run.folded > 0)
                    .map(|run| (run.after_seq, run.terminal_seq.unwrap_or(run.after_seq))),
            )
            .collect();
        for (first, last) in self.gaps.clone() {
            let unexplained = (first..=last).find(|seq| {
                !spans
                    .iter()
                    .any(|(after, through)| after < seq && seq <= through)
            });
            if let Some(seq) = unexplained {
                self.find(None, Some(seq), "it is missing, and nothing says why");
            }
        }
    }

    fn judge_run(&mut self, run: &LoggedRun, oldest: u64) {
        if run.after_seq + 1 < oldest {
            // Retention has cut its beginning off.
            return;
        }
        let events = self.events.get(&run.id).map_or(&[][..], Vec::as_slice);
        let last = events.last().map(|(seq, event)| (*seq, event.kind.name()));
        let plain: Vec<Event> = events.iter().map(|(_, event)| event.clone()).collect();
        let order = match run.status.is_terminal() {
            true => check_order(&plain),
            false => check_prefix(&plain),
        };
        if let Err(problem) = order {
            return self.find(Some(run.id), last.map(|(seq, _)| seq), problem);
        }
        let Some((seq, name)) = last.filter(|_| run.status.is_terminal()) else {
            return;
        };
        if name != end_of(run.status) || run.terminal_seq != Some(seq) {
            let words = format!(
                "the run is {}, its last event is {name}",
                run.status.as_str()
            );
            self.find(Some(run.id), Some(seq), words);
        }
    }
}

fn end_of(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Completed => "run_completed",
        RunStatus::Failed => "run_failed",
        RunStatus::Cancelled => "run_cancelled",
        RunStatus::TimedOut => "run_timed_out",
        RunStatus::Queued | RunStatus::Running | RunStatus::Waiting => "no end",
    }
}

#[cfg(test)]
mod tests {
    use netra_protocol::Timestamp;
    use netra_protocol::error::{ErrorCode, Failure};
    use netra_protocol::event::EventKind;
    use netra_protocol::id::{MessageId, ThreadId};
    use netra_protocol::usage::RunUsage;

    use super::*;

    fn run_id(number: u128) -> RunId {
        RunId::from_parts(1, number)
    }

    fn event(number: u128, run: u128, kind: EventKind) -> Event {
        let of_agent = !kind.name().starts_with("run_");
        Event {
            event_id: EventId::from_parts(1, number),
            ts: Timestamp::from_micros(0),
            thread_id: ThreadId::from_parts(1, 1),
            run_id: run_id(run),
            agent: of_agent.then(|| "echo".to_owned()),
            step: of_agent.then_some(1),
            kind,
        }
    }

    fn failed() -> EventKind {
        EventKind::RunFailed {
            error: Failure::new(ErrorCode::Internal, ""),
            usage: RunUsage::default(),
            duration_ms: 0,
        }
    }

    fn started() -> EventKind {
        EventKind::RunStarted {
            agent: "echo".into(),
            deadline: Timestamp::from_micros(0),
            attempt: 1,
            input_message_id: MessageId::from_parts(1, 1),
        }
    }

    fn run(number: u128, (after_seq, terminal_seq): (u64, u64)) -> LoggedRun {
        LoggedRun {
            id: run_id(number),
            status: RunStatus::Failed,
            after_seq,
            terminal_seq: Some(terminal_seq),
            folded: 0,
        }
    }

    /// A log with these numbers, each the end of a run of its own.
    fn judged(
        seqs: &[u64],
        latest: u64,
        change: impl FnOnce(&mut Vec<LoggedRun>),
        deletions: &[Deletion],
    ) -> Vec<String> {
        let mut judge = Judge::new("ada");
        let mut runs = Vec::new();
        for (number, seq) in (1..).zip(seqs) {
            judge.take(*seq, event(number, number, failed()));
            runs.push(run(number, (seq - 1, *seq)));
        }
        change(&mut runs);
        judge.conclude((1, latest), &runs, deletions);
        judge
            .findings
            .into_iter()
            .map(|finding| finding.problem)
            .collect()
    }

    fn as_it_is(_: &mut Vec<LoggedRun>) {}

    #[test]
    fn a_whole_log_is_well_and_so_is_one_whose_gaps_have_reasons() {
        assert!(judged(&[1, 2, 3], 3, as_it_is, &[]).is_empty());
        let thread = Deletion {
            after_seq: 1,
            through: 3,
            events: 2,
        };
        assert!(judged(&[1, 4], 4, as_it_is, &[thread]).is_empty());
        let folded = |runs: &mut Vec<LoggedRun>| {
            runs[1].after_seq = 1;
            runs[1].folded = 2;
        };
        assert!(judged(&[1, 4], 4, folded, &[]).is_empty());
    }

    #[test]
    fn what_is_missing_without_a_reason_is_found() {
        let found = judged(&[1, 4], 4, as_it_is, &[]);
        assert!(found[0].contains("2 events are missing"), "{found:?}");
        assert!(found[1].contains("nothing says why"), "{found:?}");
        // The end of the log is missing.
        assert_eq!(judged(&[1], 2, as_it_is, &[]).len(), 2);
        // The count is right, and the place is not.
        let elsewhere = Deletion {
            after_seq: 10,
            through: 12,
            events: 2,
        };
        let found = judged(&[1, 4], 4, as_it_is, &[elsewhere]);
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn disorder_and_repetition_are_found() {
        let mut judge = Judge::new("ada");
        judge.take(2, event(1, 1, failed()));
        judge.take(2, event(1, 2, failed()));
        let found: Vec<&str> = judge.findings.iter().map(|one| &*one.problem).collect();
        assert_eq!(
            found,
            ["its number comes after 2", "its event_id was there before"]
        );
    }

    #[test]
    fn a_run_without_its_end_or_with_another_one_is_found() {
        let mut judge = Judge::new("ada");
        judge.take(1, event(1, 1, started()));
        judge.conclude((1, 1), &[run(1, (0, 1))], &[]);
        assert_eq!(judge.findings.len(), 1, "{:?}", judge.findings);

        let other = |runs: &mut Vec<LoggedRun>| runs[0].status = RunStatus::Completed;
        let found = judged(&[1], 1, other, &[]);
        assert!(found[0].contains("the run is completed"), "{found:?}");
        let gone = |runs: &mut Vec<LoggedRun>| runs.clear();
        let found = judged(&[1], 1, gone, &[]);
        assert!(found[0].contains("not there"), "{found:?}");
    }

    #[test]
    fn a_run_whose_beginning_retention_has_cut_off_is_not_judged() {
        let mut judge = Judge::new("ada");
        judge.take(3, event(1, 1, started()));
        let cut = Deletion {
            after_seq: 0,
            through: 2,
            events: 2,
        };
        judge.conclude((3, 3), &[run(1, (0, 2))], &[cut]);
        assert_eq!(judge.findings, []);
    }
}
