//! Logs as they stand in a data folder: every number, every user, and the reasons for what is gone.

use std::collections::HashMap;

use netra_protocol::Event;
use netra_protocol::id::RunId;
use netra_store::inspect::{Deletion, LogOwner, LoggedRun, Logs};

use super::super::judge::{Finding, Judge};
use super::Report;
use crate::config::Config;
use crate::exit::{Exit, Problem};

/// Entries that are read at once.
const PAGE: usize = 2_000;

/// Checks the logs of all users, or of one.
pub(super) fn check(config: &Config, user: Option<&str>) -> Result<Report, Problem> {
    let logs = config.logs()?;
    let owners = logs.owners()?;
    let wanted: Vec<LogOwner> = owners
        .into_iter()
        .filter(|owner| user.is_none_or(|user| user.eq_ignore_ascii_case(&owner.name)))
        .collect();
    if let (Some(user), []) = (user, &*wanted) {
        let words = format!("there is no log of a user `{user}`");
        return Err(Problem::message(Exit::Failure, words));
    }
    let mut report = Report {
        missing_judged: true,
        ..Report::default()
    };
    for owner in &wanted {
        check_one(&logs, owner, &mut report)?;
    }
    Ok(report)
}

fn check_one(logs: &Logs, owner: &LogOwner, report: &mut Report) -> Result<(), netra_store::Error> {
    let runs = logs.runs(owner.user_id)?;
    let deletions = logs.deletions(owner.user_id)?;
    let mut whole = Whole::new(owner, runs, &deletions);
    let mut after = 0;
    loop {
        let page = logs.entries(owner.user_id, after, PAGE)?;
        let Some(last) = page.last() else {
            break;
        };
        after = last.seq;
        for entry in &page {
            whole.take(entry.seq, &entry.event()?);
        }
    }
    report.users += 1;
    report.runs += whole.runs.len() as u64;
    report.events += whole.judge.read();
    report.findings.append(&mut whole.conclude());
    Ok(())
}

/// One user's log, with all that is known of it.
struct Whole {
    judge: Judge,
    oldest: u64,
    latest: u64,
    runs: HashMap<RunId, LoggedRun>,
    reasons: Reasons,
    last: u64,
    missing: u64,
}

impl Whole {
    fn new(owner: &LogOwner, runs: Vec<LoggedRun>, deletions: &[Deletion]) -> Self {
        Self {
            judge: Judge::new(&owner.name),
            oldest: owner.oldest_seq,
            latest: owner.latest_seq,
            reasons: Reasons::new(&runs, deletions),
            runs: runs.into_iter().map(|run| (run.id, run)).collect(),
            last: 0,
            missing: 0,
        }
    }

    fn take(&mut self, seq: u64, event: &Event) {
        if seq > self.last + 1 {
            self.judge_gap(self.last + 1, seq - 1);
        }
        self.last = self.last.max(seq);
        // All numbers of a run are larger than the last one before it.
        let before = self.runs.get(&event.run_id).map_or(0, |run| run.after_seq);
        self.judge.take(seq, event, before + 1 < self.oldest);
    }

    fn judge_gap(&mut self, first: u64, last: u64) {
        self.missing += last - first + 1;
        if let Some(seq) = self.reasons.first_without(first, last) {
            let words = "it is missing, and nothing says why";
            self.judge.find(None, Some(seq), words);
        }
    }

    /// The log is at its end: is all there that was given a number, and is each run whole?
    fn conclude(mut self) -> Vec<Finding> {
        let (last, latest) = (self.last, self.latest);
        if last > latest {
            let words = format!("the log ends with {latest}");
            self.judge.find(None, Some(last), words);
        } else if last < latest {
            self.judge_gap(last + 1, latest);
        }
        let Reasons {
            deleted, folded, ..
        } = self.reasons;
        if self.missing != deleted + folded {
            let missing = self.missing;
            let words =
                format!("{missing} events are missing; {deleted} were deleted and {folded} folded");
            self.judge.find(None, None, words);
        }
        let mut runs: Vec<&LoggedRun> = self.runs.values().collect();
        runs.sort_by_key(|run| run.id);
        for run in runs {
            judge_run(&mut self.judge, run, self.oldest);
        }
        let strangers: Vec<RunId> = self.judge.runs().map(|(run, _)| run).collect();
        for run in strangers {
            if !self.runs.contains_key(&run) {
                self.judge.judge_stranger(run);
            }
        }
        self.judge.into_findings()
    }
}

fn judge_run(judge: &mut Judge, run: &LoggedRun, oldest: u64) {
    // Retention has taken all of it.
    let gone = run.terminal_seq.is_some_and(|seq| seq < oldest);
    match (judge.end_of(run.id), run.terminal_seq) {
        (Some(seq), Some(expected)) if seq != expected => {
            let words = format!("its terminal event is to be at {expected}");
            judge.find(Some(run.id), Some(seq), words);
        }
        _ => judge.judge_end(run.id, run.status, gone),
    }
}

/// Why numbers are missing.
struct Reasons {
    /// First and last number of what may be missing; in order, none touches the next.
    spans: Vec<(u64, u64)>,
    deleted: u64,
    folded: u64,
}

impl Reasons {
    fn new(runs: &[LoggedRun], deletions: &[Deletion]) -> Self {
        let deleted = deletions.iter().map(|one| (one.after_seq, one.through));
        let folded = runs.iter().filter(|run| run.folded > 0);
        let folded = folded.map(|run| (run.after_seq, run.terminal_seq.unwrap_or(run.after_seq)));
        let mut all: Vec<(u64, u64)> = deleted.chain(folded).collect();
        all.sort_unstable();
        let mut spans: Vec<(u64, u64)> = Vec::new();
        for (after, through) in all {
            match spans.last_mut() {
                Some((_, last)) if after <= *last => *last = through.max(*last),
                _ => spans.push((after + 1, through)),
            }
        }
        Self {
            spans,
            deleted: deletions.iter().map(|one| one.events).sum(),
            folded: runs.iter().map(|run| run.folded).sum(),
        }
    }

    /// The first of these numbers that no reason covers.
    fn first_without(&self, first: u64, last: u64) -> Option<u64> {
        let at = self.spans.partition_point(|(_, end)| *end < first);
        match self.spans.get(at) {
            Some((start, end)) if *start <= first => (*end < last).then_some(end + 1),
            _ => Some(first),
        }
    }
}

#[cfg(test)]
mod tests {
    use netra_protocol::id::UserId;
    use netra_protocol::run::RunStatus;

    use super::super::super::judge::tests::{event, failed, run_id, started};
    use super::*;

    fn run(number: u128, (after_seq, terminal_seq): (u64, u64)) -> LoggedRun {
        LoggedRun {
            id: run_id(number),
            status: RunStatus::Failed,
            after_seq,
            terminal_seq: Some(terminal_seq),
            folded: 0,
        }
    }

    fn owner(oldest_seq: u64, latest_seq: u64) -> LogOwner {
        LogOwner {
            user_id: UserId::from_parts(1, 1),
            name: "ada".into(),
            oldest_seq,
            latest_seq,
        }
    }

    fn deleted((after_seq, through): (u64, u64), events: u64) -> Deletion {
        Deletion {
            after_seq,
            through,
            events,
        }
    }

    fn problems(whole: Whole) -> Vec<String> {
        let findings = whole.conclude().into_iter();
        findings.map(|finding| finding.problem).collect()
    }

    /// A log with these numbers, each the end of a run of its own.
    fn judged(
        seqs: &[u64],
        latest: u64,
        change: impl FnOnce(&mut Vec<LoggedRun>),
        deletions: &[Deletion],
    ) -> Vec<String> {
        let numbered = || (1..).zip(seqs);
        let mut runs = numbered()
            .map(|(number, seq)| run(number, (seq - 1, *seq)))
            .collect();
        change(&mut runs);
        let mut whole = Whole::new(&owner(1, latest), runs, deletions);
        for (number, seq) in numbered() {
            whole.take(*seq, &event(number, number, failed()));
        }
        problems(whole)
    }

    fn as_it_is(_: &mut Vec<LoggedRun>) {}

    #[test]
    fn a_whole_log_is_well_and_so_is_one_whose_gaps_have_reasons() {
        assert!(judged(&[1, 2, 3], 3, as_it_is, &[]).is_empty());
        assert!(judged(&[1, 4], 4, as_it_is, &[deleted((1, 3), 2)]).is_empty());
        let two = [deleted((2, 3), 1), deleted((1, 2), 1)];
        assert!(judged(&[1, 4], 4, as_it_is, &two).is_empty());
        let folded = |runs: &mut Vec<LoggedRun>| {
            runs[1].after_seq = 1;
            runs[1].folded = 2;
        };
        assert!(judged(&[1, 4], 4, folded, &[]).is_empty());
    }

    #[test]
    fn what_is_missing_without_a_reason_is_found() {
        let found = judged(&[1, 4], 4, as_it_is, &[]);
        assert!(found[0].contains("nothing says why"), "{found:?}");
        assert!(found[1].contains("2 events are missing"), "{found:?}");
        // The end of the log is missing.
        assert_eq!(judged(&[1], 2, as_it_is, &[]).len(), 2);
        // The count is right, and the place is not.
        for elsewhere in [(10, 12), (1, 2), (2, 3)] {
            let found = judged(&[1, 4], 4, as_it_is, &[deleted(elsewhere, 2)]);
            assert_eq!(found.len(), 1, "{found:?}");
        }
        let beyond = judged(&[1, 2], 1, as_it_is, &[]);
        assert!(beyond[0].contains("the log ends with 1"), "{beyond:?}");
    }

    #[test]
    fn a_run_that_ends_elsewhere_or_is_not_there_is_found() {
        let elsewhere = |runs: &mut Vec<LoggedRun>| runs[0].terminal_seq = Some(2);
        let found = judged(&[1, 2], 2, elsewhere, &[]);
        assert!(found[0].contains("to be at 2"), "{found:?}");
        let gone = |runs: &mut Vec<LoggedRun>| runs.clear();
        let found = judged(&[1], 1, gone, &[]);
        assert!(found[0].contains("not there"), "{found:?}");
    }

    #[test]
    fn what_retention_has_left_is_judged() {
        // The first run began before the cut and goes on behind it; the second is gone.
        let runs = || vec![run(1, (0, 4)), run(2, (1, 2)), run(3, (2, 5))];
        let cut = [deleted((0, 2), 2)];
        let whole = |begin| {
            let mut whole = Whole::new(&owner(3, 5), runs(), &cut);
            whole.take(3, &event(3, 3, begin));
            whole.take(4, &event(4, 1, failed()));
            whole.take(5, &event(5, 3, failed()));
            problems(whole)
        };
        // It was queued and cancelled; the other one started without an agent.
        let found = whole(started());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("without an agent"), "{found:?}");
    }
}
