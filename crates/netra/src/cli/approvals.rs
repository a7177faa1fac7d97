//! `netra approvals`: what agents ask a person, and the answers.

use clap::Subcommand;
use netra_client::Client;
use netra_protocol::approval::{Approval, ApprovalState, Decision, ResolveApproval};
use netra_protocol::id::ApprovalId;
use serde_json::{Value, json};

use super::connection::{Source, Whereabouts, no_folder};
use super::output;
use crate::accounts::Accounts;
use crate::exit::{Exit, Problem};

/// The most approvals of one page.
const PAGE: u32 = 100;
/// The longest arguments in a line for people, in characters.
const MAX_SHOWN: usize = 120;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the calls that wait for an answer, newest first.
    #[command(
        after_help = "Examples:\n  netra approvals list --data ./netra-data --user ada\n  \
        netra approvals list --server https://netra.example --token \"$TOKEN\" --all --json"
    )]
    List {
        #[command(flatten)]
        place: Place,
        /// Those that were answered, too.
        #[arg(long)]
        all: bool,
    },
    /// Let a call go on, as it was asked for or with other arguments.
    #[command(after_help = "Examples:\n  \
        netra approvals approve apr_01kanqxk7d2h6n1s5v9x3b8f0j --user ada\n  \
        netra approvals approve apr_01kanqxk7d2h6n1s5v9x3b8f0j --user ada --arguments '{\"path\": \"a.txt\"}'")]
    Approve {
        #[command(flatten)]
        answer: Answer,
        /// Other arguments for the call, as a JSON object; they are checked again.
        #[arg(long, value_name = "JSON")]
        arguments: Option<String>,
    },
    /// Refuse a call.
    #[command(after_help = "Examples:\n  \
        netra approvals deny apr_01kanqxk7d2h6n1s5v9x3b8f0j --user ada --note \"not that file\"")]
    Deny {
        #[command(flatten)]
        answer: Answer,
    },
}

#[derive(Debug, clap::Args)]
struct Place {
    #[command(flatten)]
    source: Source,
    /// The user of the folder whose approvals they are.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "local",
        conflicts_with = "server"
    )]
    user: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Answer {
    /// The approval, such as apr_01kanqxk7d2h6n1s5v9x3b8f0j.
    #[arg(value_name = "ID")]
    id: ApprovalId,
    /// For the audit and the agent.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    #[command(flatten)]
    place: Place,
}

pub(super) async fn approvals(args: Args) -> Result<Exit, Problem> {
    match args.command {
        Command::List { place, all } => list(&place, all).await,
        Command::Approve { answer, arguments } => {
            let arguments = arguments.map(|text| read(&text)).transpose()?;
            answer.give(Decision::Approve, arguments).await
        }
        Command::Deny { answer } => answer.give(Decision::Deny, None).await,
    }
}

fn read(text: &str) -> Result<Value, Problem> {
    serde_json::from_str(text).map_err(|error| {
        let words = format!("--arguments is no JSON: {error}");
        Problem::message(Exit::Usage, words)
    })
}

impl Place {
    /// The server that was named, or the one of the folder. No account is made for asking.
    async fn client(&self) -> Result<Client, Problem> {
        if let Some(client) = self.source.named()? {
            return Ok(client);
        }
        let config = self.source.config()?;
        if !config.has_database() {
            return Err(no_folder(&config.data));
        }
        let users = Accounts::open(&config)?.all().await?;
        if !users
            .iter()
            .any(|user| user.name.eq_ignore_ascii_case(&self.user))
        {
            let words = format!("the folder has no user `{}`: --user names one", self.user);
            return Err(Problem::message(Exit::Usage, words));
        }
        let folder = config.data.display().to_string();
        let (config, user) = (Box::new(config), self.user.clone());
        let found = Whereabouts::Folder { config, user }.look().await?;
        found.ok_or_else(|| {
            let words = format!("no server runs on {folder}: `netra serve` starts one");
            Problem::message(Exit::Failure, words)
        })
    }
}

async fn list(place: &Place, all: bool) -> Result<Exit, Problem> {
    let client = place.client().await?;
    let (mut approvals, mut cursor) = (Vec::new(), None);
    loop {
        let page = client.approvals(Some(PAGE), cursor.as_deref()).await?;
        approvals.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    approvals.retain(|approval| all || approval.state == ApprovalState::Pending);
    if place.json {
        output::json(&approvals)?;
        return Ok(Exit::Success);
    }
    let head = ["ID", "STATE", "TOOL", "EXPIRES", "ARGUMENTS"].map(str::to_owned);
    let rows = std::iter::once(head.to_vec()).chain(approvals.iter().map(row));
    output::line(output::table(&rows.collect::<Vec<_>>()))?;
    Ok(Exit::Success)
}

fn row(approval: &Approval) -> Vec<String> {
    let state = json!(approval.state);
    let arguments = approval.arguments.to_string();
    let mut shown: String = arguments.chars().take(MAX_SHOWN).collect();
    if shown.len() < arguments.len() {
        shown.push('…');
    }
    vec![
        approval.id.to_string(),
        state.as_str().unwrap_or_default().to_owned(),
        approval.tool_name.clone(),
        approval.expires_at.to_string(),
        shown,
    ]
}

impl Answer {
    async fn give(self, decision: Decision, arguments: Option<Value>) -> Result<Exit, Problem> {
        let answer = ResolveApproval {
            decision,
            note: self.note,
            arguments,
        };
        let client = self.place.client().await?;
        let answered = client.approval_resolve(self.id, &answer).await?;
        if self.place.json {
            output::json(&answered)?;
        } else {
            let word = match decision {
                Decision::Approve => "approved",
                Decision::Deny => "denied",
            };
            output::line(format!("{} is {word}", answered.id))?;
        }
        Ok(Exit::Success)
    }
}
