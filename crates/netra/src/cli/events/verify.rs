//! `netra events verify`: holds the logs of a data folder against what they promise.

use netra_store::inspect::{LogOwner, Logs};
use serde::Serialize;

use super::judge::{Finding, Judge};
use crate::cli::{Folder, output};
use crate::exit::{Exit, Problem};

/// Entries that are read at once.
const PAGE: usize = 2_000;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Reads the folder's database, beside a server too, and changes nothing. Numbers \
    have to rise; what is missing needs a reason (a deleted thread, a fold, retention); each run \
    ends once, as its status says, with everything in it closed. Ends with 0 only if all is well.\n\n\
    Examples:\n  netra events verify --data ./netra-data\n  \
    netra events verify --user ada --json"
)]
pub(super) struct Args {
    #[command(flatten)]
    folder: Folder,
    /// Only this user's log.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    users: u64,
    runs: u64,
    events: u64,
    findings: Vec<Finding>,
}

pub(super) async fn verify(args: Args) -> Result<Exit, Problem> {
    let data = args.folder.load()?.data;
    let user = args.user.clone();
    let runtime = netra_context::Runtime::new();
    let checking = runtime.spawn_blocking(move || check(&data, user.as_deref()));
    let report = checking
        .await
        .map_err(|_| Problem::message(Exit::Failure, "the check panicked"))??;
    let good = report.findings.is_empty();
    if args.json {
        output::json(&report)?;
    } else {
        show(&report)?;
    }
    Ok(if good { Exit::Success } else { Exit::Failure })
}

fn show(report: &Report) -> Result<(), Problem> {
    for finding in &report.findings {
        let run = finding.run.map(|run| format!(" {run}")).unwrap_or_default();
        let seq = finding
            .seq
            .map(|seq| format!(" at {seq}"))
            .unwrap_or_default();
        output::line(format!("{}{run}{seq}: {}", finding.user, finding.problem))?;
    }
    let Report {
        users,
        runs,
        events,
        findings,
    } = report;
    output::line(format!(
        "{users} logs with {events} events of {runs} runs: {}",
        match findings.len() {
            0 => "all is well".to_owned(),
            found => format!("{found} findings"),
        }
    ))?;
    Ok(())
}

fn check(data: &std::path::Path, user: Option<&str>) -> Result<Report, Problem> {
    let failed = |error| Problem::new(Exit::Failure, error);
    let logs = Logs::open(data).map_err(failed)?;
    let owners = logs.owners().map_err(failed)?;
    let wanted: Vec<LogOwner> = owners
        .into_iter()
        .filter(|owner| user.is_none_or(|user| user.eq_ignore_ascii_case(&owner.name)))
        .collect();
    if let (Some(user), []) = (user, &*wanted) {
        let words = format!("there is no log of a user `{user}`");
        return Err(Problem::message(Exit::Failure, words));
    }
    let mut report = Report::default();
    for owner in &wanted {
        check_one(&logs, owner, &mut report).map_err(failed)?;
    }
    Ok(report)
}

fn check_one(logs: &Logs, owner: &LogOwner, report: &mut Report) -> Result<(), netra_store::Error> {
    let mut judge = Judge::new(&owner.name);
    let mut after = 0;
    loop {
        let page = logs.entries(owner.user_id, after, PAGE)?;
        let Some(last) = page.last() else {
            break;
        };
        after = last.seq;
        for entry in &page {
            judge.take(entry.seq, entry.event()?);
        }
    }
    let runs = logs.runs(owner.user_id)?;
    let deletions = logs.deletions(owner.user_id)?;
    judge.conclude((owner.oldest_seq, owner.latest_seq), &runs, &deletions);
    report.users += 1;
    report.runs += runs.len() as u64;
    report.events += judge.read();
    report.findings.append(&mut judge.findings);
    Ok(())
}
