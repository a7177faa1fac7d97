//! What can be wrong with the events of a user's log, told as they come. What is open is held, and
//! how each run ended; not what was read.

use std::collections::HashMap;

use netra_engine::order::RunOrder;
use netra_protocol::Event;
use netra_protocol::id::{RunId, ThreadId};
use netra_protocol::run::RunStatus;
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

/// How far a run has come in the log.
enum Standing {
    Open {
        order: Box<RunOrder>,
        seq: u64,
    },
    Ended {
        seq: u64,
        name: &'static str,
    },
    /// What is wrong with it was told; what follows from that is not.
    Broken,
}

/// Reads one user's log in order and notes what is wrong.
pub(super) struct Judge {
    user: String,
    last: u64,
    runs: HashMap<RunId, (ThreadId, Standing)>,
    read: u64,
    findings: Vec<Finding>,
}

impl Judge {
    pub(super) fn new(user: &str) -> Self {
        Self {
            user: user.to_owned(),
            last: 0,
            runs: HashMap::new(),
            read: 0,
            findings: Vec::new(),
        }
    }

    /// How many events were read.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// The runs that have events, with their threads.
    pub(super) fn runs(&self) -> impl ExactSizeIterator<Item = (RunId, ThreadId)> {
        self.runs.iter().map(|(run, (thread, _))| (*run, *thread))
    }

    /// The runs with which something was wrong, with their threads.
    pub(super) fn found(&self) -> impl Iterator<Item = (RunId, ThreadId)> {
        let runs = self.findings.iter().filter_map(|finding| finding.run);
        runs.filter_map(|run| self.runs.get(&run).map(|(thread, _)| (run, *thread)))
    }

    /// The number of the run's last event, if that ends it.
    pub(super) fn end_of(&self, run: RunId) -> Option<u64> {
        match self.runs.get(&run) {
            Some((_, Standing::Ended { seq, .. })) => Some(*seq),
            _ => None,
        }
    }

    pub(super) fn find(
        &mut self,
        run: Option<RunId>,
        seq: Option<u64>,
        problem: impl Into<String>,
    ) {
        self.findings.push(Finding {
            user: self.user.clone(),
            run,
            seq,
            problem: problem.into(),
        });
    }

    pub(super) fn into_findings(self) -> Vec<Finding> {
        self.findings
    }

    /// Takes the next event of the log. `cut`: the run's first events may have been deleted, so
    /// that what ends may have begun among them.
    pub(super) fn take(&mut self, seq: u64, event: &Event, cut: bool) {
        self.read += 1;
        let run = event.run_id;
        if seq <= self.last {
            let words = format!("its number comes after {}", self.last);
            self.find(Some(run), Some(seq), words);
        }
        self.last = self.last.max(seq);
        let begin = || {
            let order = match cut {
                true => RunOrder::of_rest(),
                false => RunOrder::default(),
            };
            let order = Box::new(order);
            (event.thread_id, Standing::Open { order, seq })
        };
        let (_, standing) = self.runs.entry(run).or_insert_with(begin);
        if let Err(problem) = standing.take(seq, event) {
            *standing = Standing::Broken;
            let words = format!("{}: {problem}", event.kind.name());
            self.find(Some(run), Some(seq), words);
        }
    }

    /// What is wrong with a run's end in the log, beside its state. `gone`: a run that has no
    /// events may have had some.
    pub(super) fn problem_at_end(
        &self,
        run: RunId,
        status: RunStatus,
        gone: bool,
    ) -> Option<(Option<u64>, String)> {
        let problem = |seq, words: &str| Some((seq, words.to_owned()));
        match self.runs.get(&run).map(|(_, standing)| standing) {
            Some(Standing::Broken) => None,
            Some(Standing::Ended { seq, name }) if *name != name_of_end(status) => {
                let words = format!("the run is {}, its last event is {name}", status.as_str());
                problem(Some(*seq), &words)
            }
            Some(Standing::Ended { .. }) => None,
            Some(Standing::Open { seq, .. }) if status.is_terminal() => problem(
                Some(*seq),
                "the run has ended, and its terminal event is not there",
            ),
            None if status.is_terminal() && !gone => {
                problem(None, "the run has ended, and none of its events is there")
            }
            Some(Standing::Open { .. }) | None => None,
        }
    }

    /// Holds the run's end against its state.
    pub(super) fn judge_end(&mut self, run: RunId, status: RunStatus, gone: bool) {
        if let Some((seq, problem)) = self.problem_at_end(run, status, gone) {
            self.find(Some(run), seq, problem);
        }
    }

    /// Tells of events whose run is not there.
    pub(super) fn judge_stranger(&mut self, run: RunId) {
        if self.runs.contains_key(&run) {
            let words = "there are events of a run that is not there";
            self.find(Some(run), None, words);
        }
    }
}

impl Standing {
    fn take(&mut self, seq: u64, event: &Event) -> Result<(), String> {
        match self {
            Self::Broken => Ok(()),
            Self::Ended { .. } => Err("it comes after the terminal event".into()),
            Self::Open { order, seq: last } => {
                order.take(event)?;
                *last = seq;
                if order.has_ended() {
                    let name = event.kind.name();
                    *self = Self::Ended { seq, name };
                }
                Ok(())
            }
        }
    }
}

fn name_of_end(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Completed => "run_completed",
        RunStatus::Failed => "run_failed",
        RunStatus::Cancelled => "run_cancelled",
        RunStatus::TimedOut => "run_timed_out",
        RunStatus::Queued | RunStatus::Running | RunStatus::Waiting => "no end",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use netra_protocol::Timestamp;
    use netra_protocol::error::{ErrorCode, Failure};
    use netra_protocol::event::EventKind;
    use netra_protocol::id::{EventId, MessageId};
    use netra_protocol::usage::RunUsage;

    use super::*;

    pub(crate) fn run_id(number: u128) -> RunId {
        RunId::from_parts(1, number)
    }

    pub(crate) fn event(number: u128, run: u128, kind: EventKind) -> Event {
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

    pub(crate) fn failed() -> EventKind {
        EventKind::RunFailed {
            error: Failure::new(ErrorCode::Internal, ""),
            usage: RunUsage::default(),
            duration_ms: 0,
        }
    }

    pub(crate) fn started() -> EventKind {
        EventKind::RunStarted {
            agent: "echo".into(),
            deadline: Timestamp::from_micros(0),
            attempt: 1,
            input_message_id: MessageId::from_parts(1, 1),
        }
    }

    fn thought() -> EventKind {
        EventKind::AgentThinking {
            message: "hm".into(),
            progress: None,
        }
    }

    fn problems(judge: Judge) -> Vec<String> {
        let findings = judge.into_findings().into_iter();
        findings.map(|finding| finding.problem).collect()
    }

    #[test]
    fn disorder_and_repetition_are_found() {
        let mut judge = Judge::new("ada");
        judge.take(2, &event(1, 1, started()), false);
        judge.take(2, &event(1, 1, started()), false);
        assert_eq!(
            problems(judge),
            [
                "its number comes after 2",
                "run_started: its id was there before"
            ]
        );
    }

    #[test]
    fn of_a_broken_run_the_first_breach_is_told_and_of_an_ended_one_what_follows() {
        let mut judge = Judge::new("ada");
        judge.take(1, &event(1, 1, thought()), false);
        judge.take(2, &event(2, 1, thought()), false);
        judge.judge_end(run_id(1), RunStatus::Failed, false);
        judge.take(3, &event(3, 2, failed()), false);
        judge.take(4, &event(4, 2, thought()), false);
        assert_eq!(
            problems(judge),
            [
                "agent_thinking: the run has not started",
                "agent_thinking: it comes after the terminal event"
            ]
        );
    }

    #[test]
    fn a_run_without_its_end_or_with_another_one_is_found() {
        let mut judge = Judge::new("ada");
        judge.take(1, &event(1, 1, started()), false);
        judge.take(2, &event(2, 2, failed()), false);
        let told = |number, status, gone| {
            let told = judge.problem_at_end(run_id(number), status, gone);
            told.map(|(seq, _)| seq)
        };
        assert_eq!(told(1, RunStatus::Running, false), None);
        assert_eq!(told(1, RunStatus::Failed, false), Some(Some(1)));
        assert_eq!(told(2, RunStatus::Failed, false), None);
        assert_eq!(told(2, RunStatus::Completed, false), Some(Some(2)));
        assert_eq!(told(2, RunStatus::Running, false), Some(Some(2)));
        assert_eq!(told(3, RunStatus::Failed, false), Some(None));
        assert_eq!(told(3, RunStatus::Failed, true), None);
        assert_eq!(told(3, RunStatus::Queued, false), None);
    }

    #[test]
    fn the_rest_of_a_run_whose_beginning_was_cut_off_is_judged() {
        let mut judge = Judge::new("ada");
        judge.take(3, &event(1, 1, thought()), true);
        judge.take(4, &event(2, 1, failed()), true);
        assert_eq!(judge.end_of(run_id(1)), Some(4));
        judge.take(5, &event(3, 1, thought()), true);
        assert_eq!(
            problems(judge),
            ["agent_thinking: it comes after the terminal event"]
        );
    }
}
