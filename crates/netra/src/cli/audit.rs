//! `netra audit`: the audit records of a data folder, checked and written out. Beside a server too.

use clap::Subcommand;
use netra_gateway::Keys;
use netra_store::audit::{Audit, ChainOwner};
use serde::Serialize;

use super::{Folder, output};
use crate::exit::{Exit, Problem};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Find records that were changed, moved, added or deleted.
    #[command(
        after_help = "Each user's records are a chain, keyed with the folder's `keys`, and the numbers of chains and records are sealed. Whoever \
        puts the whole folder back to an earlier day stays unseen. Ends with 0 only if all is well.\n\n\
        Examples:\n  netra audit verify --data ./netra-data\n  \
        netra audit verify --user ada --json"
    )]
    Verify(Chains),
    /// Print records, one JSON object per line, oldest first.
    #[command(
        after_help = "Examples:\n  netra audit export --data ./netra-data > audit.jsonl\n  \
        netra audit export --user ada"
    )]
    Export {
        #[command(flatten)]
        folder: Folder,
        /// Only this user's.
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Chains {
    #[command(flatten)]
    folder: Folder,
    /// Only this user's.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Finding {
    user: String,
    seq: u64,
    problem: &'static str,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    users: u64,
    records: u64,
    unchained: u64,
    findings: Vec<Finding>,
}

pub(super) fn audit(args: Args) -> Result<Exit, Problem> {
    match args.command {
        Command::Verify(chains) => verify(&chains),
        Command::Export { folder, user } => export(&folder, user.as_deref()),
    }
}

/// The owners of chains: all, or the one of this name or id.
fn owners(audit: &Audit, wanted: Option<&str>) -> Result<Vec<ChainOwner>, Problem> {
    let mut owners = audit.owners()?;
    let Some(wanted) = wanted else {
        return Ok(owners);
    };
    owners.retain(|owner| {
        owner
            .name
            .as_deref()
            .is_some_and(|name| name.eq_ignore_ascii_case(wanted))
            || owner.user_id.to_string() == wanted
    });
    if owners.is_empty() {
        let words = format!("`{wanted}` has no audit records");
        return Err(Problem::message(Exit::Failure, words));
    }
    Ok(owners)
}

fn verify(chains: &Chains) -> Result<Exit, Problem> {
    let config = chains.folder.load()?;
    let audit = config.audit()?;
    // Without the keys that the chains were made with there is nothing to check them by.
    let keys = Keys::load(&config.data).map_err(|error| Problem::new(Exit::Failure, error))?;
    let mut report = Report::default();
    for owner in owners(&audit, chains.user.as_deref())? {
        let verdict = audit.verify(&keys.audit_key(), owner.user_id)?;
        let user = owner.name.unwrap_or_else(|| owner.user_id.to_string());
        report.users += 1;
        report.records += verdict.records;
        report.unchained += verdict.unchained;
        report
            .findings
            .extend(verdict.findings.into_iter().map(|(seq, problem)| Finding {
                user: user.clone(),
                seq,
                problem,
            }));
    }
    if chains.user.is_none() {
        let of_all = audit.verify_totals(&keys.audit_key())?;
        report
            .findings
            .extend(of_all.into_iter().map(|problem| Finding {
                user: "all users".to_owned(),
                seq: 0,
                problem,
            }));
    }
    tell(&report, chains.json)?;
    Ok(if report.findings.is_empty() {
        Exit::Success
    } else {
        Exit::Failure
    })
}

fn tell(report: &Report, json: bool) -> Result<(), Problem> {
    if json {
        output::json(report)?;
        return Ok(());
    }
    for finding in &report.findings {
        output::line(format!(
            "{} at {}: {}",
            finding.user, finding.seq, finding.problem
        ))?;
    }
    let before = match report.unchained {
        0 => String::new(),
        some => format!(" and {some} from before there were chains"),
    };
    output::line(format!(
        "{} chains with {} records{before}: {}",
        report.users,
        report.records,
        match report.findings.len() {
            0 => "all is well".to_owned(),
            found => format!("{found} findings"),
        }
    ))?;
    Ok(())
}

fn export(folder: &Folder, user: Option<&str>) -> Result<Exit, Problem> {
    let audit = folder.load()?.audit()?;
    for owner in owners(&audit, user)? {
        audit.entries(owner.user_id, |entry| {
            #[derive(Serialize)]
            struct Line<'a> {
                user_id: String,
                #[serde(flatten)]
                entry: &'a netra_protocol::audit::AuditEntry,
            }
            let user_id = owner.user_id.to_string();
            output::line(serde_json::to_string(&Line {
                user_id,
                entry: &entry,
            })?)?;
            Ok::<(), Problem>(())
        })?;
    }
    Ok(Exit::Success)
}
