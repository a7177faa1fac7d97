//! `netra user`: accounts of a data folder, whether a server runs on it or not.

use std::io::Read as _;

use clap::Subcommand;
use netra_gateway::OneTimeLink;
use netra_protocol::account::{Plan, Role};

use super::{Folder, output};
use crate::accounts::{Accounts, NewAccount};
use crate::exit::{Exit, Problem};
use crate::server_file::ServerFile;

/// More than the longest password with its line end.
const LONGEST_INPUT: u64 = 4096;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an account and print its id. Works while a server runs on the folder.
    #[command(after_help = "Examples:\n  \
        netra user add ada --data ./netra-data --role admin --password-stdin < password.txt")]
    Add {
        /// The name to sign in with.
        name: String,
        #[command(flatten)]
        folder: Folder,
        /// user, developer or admin.
        #[arg(long, default_value = "user")]
        role: Role,
        /// free, pro or enterprise.
        #[arg(long, default_value = "free")]
        plan: Plan,
        /// Read the password, 12 to 128 characters, from standard input. Without it the account
        /// cannot sign in by password, only by `netra token`.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Disable an account: its sessions and API keys end for good. A running server notices within
    /// a minute, and cancels the user's runs; `PATCH /api/admin/users/{id}` acts at once.
    #[command(after_help = "Examples:\n  netra user disable ada --data ./netra-data")]
    Disable {
        /// The user's name.
        name: String,
        #[command(flatten)]
        folder: Folder,
    },
    /// Let a disabled user in again. What was ended stays ended.
    #[command(after_help = "Examples:\n  netra user enable ada --data ./netra-data")]
    Enable {
        /// The user's name.
        name: String,
        #[command(flatten)]
        folder: Folder,
    },
    /// Put a user into these groups, for policies, and into no others. A running server notices
    /// within a minute.
    #[command(
        after_help = "Examples:\n  netra user groups ada ops finance --data ./netra-data\n  \
        netra user groups ada --data ./netra-data"
    )]
    Groups {
        /// The user's name.
        name: String,
        /// The groups; none takes the user out of all.
        groups: Vec<String>,
        #[command(flatten)]
        folder: Folder,
    },
    /// Give an account another role or plan. A running server notices within a minute.
    #[command(after_help = "Examples:\n  netra user set ada --plan pro --data ./netra-data")]
    Set {
        /// The user's name.
        name: String,
        #[command(flatten)]
        folder: Folder,
        /// user, developer or admin.
        #[arg(long, required_unless_present = "plan")]
        role: Option<Role>,
        /// free, pro or enterprise.
        #[arg(long)]
        plan: Option<Plan>,
    },
    /// Print a link by which the user sets a new password, once, within 24 hours.
    #[command(after_help = "Examples:\n  netra user reset ada --data ./netra-data")]
    Reset {
        /// The user's name.
        name: String,
        #[command(flatten)]
        folder: Folder,
    },
    /// List the accounts.
    #[command(after_help = "Examples:\n  netra user list --data ./netra-data --json")]
    List {
        #[command(flatten)]
        folder: Folder,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn user(args: Args) -> Result<Exit, Problem> {
    match args.command {
        Command::Add {
            name,
            folder,
            role,
            plan,
            password_stdin,
        } => {
            let password = if password_stdin {
                Some(read_password()?)
            } else {
                None
            };
            let accounts = Accounts::open(&folder.load()?)?;
            let account = NewAccount {
                name,
                role,
                plan,
                password,
            };
            let user = accounts.create(account).await?;
            output::line(user.id.to_string())?;
        }
        Command::Disable { name, folder } => set_disabled(&folder, &name, true).await?,
        Command::Enable { name, folder } => set_disabled(&folder, &name, false).await?,
        Command::Groups {
            name,
            groups,
            folder,
        } => {
            let accounts = Accounts::open(&folder.load()?)?;
            let user = accounts.set_groups(&name, groups).await?;
            output::line(user.id.to_string())?;
        }
        Command::Set {
            name,
            folder,
            role,
            plan,
        } => {
            let accounts = Accounts::open(&folder.load()?)?;
            let user = accounts.set(&name, role, plan).await?;
            output::line(user.id.to_string())?;
        }
        Command::Reset { name, folder } => reset(&folder, &name).await?,
        Command::List { folder, json } => {
            let users = Accounts::open(&folder.load()?)?.all().await?;
            if json {
                output::json(&users)?;
            } else {
                let head = ["ID", "NAME", "ROLE", "PLAN", "STATE", "CREATED"]
                    .map(str::to_owned)
                    .to_vec();
                let rows = users.into_iter().map(|user| {
                    vec![
                        user.id.to_string(),
                        user.name,
                        user.role.as_str().to_owned(),
                        user.plan.as_str().to_owned(),
                        if user.disabled { "disabled" } else { "enabled" }.to_owned(),
                        user.created_at.to_string(),
                    ]
                });
                let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
                output::line(output::table(&rows))?;
            }
        }
    }
    Ok(Exit::Success)
}

async fn set_disabled(folder: &Folder, name: &str, disabled: bool) -> Result<(), Problem> {
    let accounts = Accounts::open(&folder.load()?)?;
    let user = accounts.set_disabled(name, disabled).await?;
    Ok(output::line(user.id.to_string())?)
}

async fn reset(folder: &Folder, name: &str) -> Result<(), Problem> {
    let config = folder.load()?;
    let token = Accounts::open(&config)?.reset_token(name).await?;
    let server = ServerFile::read(&config.data).map(|file| file.address);
    let base = config.public_origin.or(server).unwrap_or_default();
    Ok(output::line(OneTimeLink::Reset.url(&base, &token))?)
}

/// One line, without its line end.
fn read_password() -> Result<String, Problem> {
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(LONGEST_INPUT)
        .read_to_string(&mut text)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
