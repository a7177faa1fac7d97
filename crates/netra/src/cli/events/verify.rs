//! `netra events verify`: holds logs against what they promise, in a data folder or from outside.

mod folder;
mod server;

use serde::Serialize;

use super::judge::Finding;
use crate::cli::connection::Source;
use crate::cli::output;
use crate::exit::{Exit, Problem};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Numbers have to rise; each run ends once, as its status says, with everything in \
    it closed: tool calls, agents, approvals, messages. Of a run whose first events retention has \
    deleted, the rest is judged. Ends with 0 only if all is well.\n\n\
    With --data it reads the folder's database, beside a server too, and changes nothing. With \
    --server it reads the log of the token's user as every client does, and looks a second time at \
    what seems wrong, since the log goes on meanwhile.\n\n\
    Only --data tells what is missing: each number needs a reason to be gone (a deleted thread, a \
    fold, retention), and so many have to be gone as the reasons say. Only --data knows at which \
    number a run begins and ends, so only it can tell what retention took from what was lost, and \
    only it checks all users.\n\n\
    Examples:\n  netra events verify --data ./netra-data\n  \
    netra events verify --user ada --json\n  \
    netra events verify --server https://netra.example --token \"$TOKEN\""
)]
pub(super) struct Args {
    #[command(flatten)]
    source: Source,
    /// Only this user's log.
    #[arg(long, value_name = "NAME", conflicts_with = "server")]
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
    /// Whether every missing number was asked for its reason.
    missing_judged: bool,
    findings: Vec<Finding>,
}

pub(super) async fn verify(args: Args) -> Result<Exit, Problem> {
    let report = match args.source.named()? {
        Some(client) => Box::pin(server::check(&client)).await?,
        None => in_folder(&args).await?,
    };
    let good = report.findings.is_empty();
    if args.json {
        output::json(&report)?;
    } else {
        show(&report)?;
    }
    Ok(if good { Exit::Success } else { Exit::Failure })
}

async fn in_folder(args: &Args) -> Result<Report, Problem> {
    let config = args.source.folder.load()?;
    let user = args.user.clone();
    let runtime = netra_context::Runtime::new();
    let checking = runtime.spawn_blocking(move || folder::check(&config, user.as_deref()));
    checking
        .await
        .map_err(|_| Problem::message(Exit::Failure, "the check panicked"))?
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
        missing_judged,
    } = report;
    let missing = match missing_judged {
        true => "",
        false => "; what is missing can be told with --data only",
    };
    output::line(format!(
        "{users} logs with {events} events of {runs} runs: {}{missing}",
        match findings.len() {
            0 => "all is well".to_owned(),
            found => format!("{found} findings"),
        }
    ))?;
    Ok(())
}
