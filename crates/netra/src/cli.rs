//! The command line: one module per command, one place that turns their ends into exit codes.

mod agents;
mod approvals;
mod audit;
mod backup;
mod config;
mod connection;
mod doctor;
mod events;
mod isolation;
mod mcp;
mod models;
mod openapi;
mod output;
mod policy;
mod run;
mod screen;
mod secrets;
mod serve;
mod token;
mod tree;
mod user;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser, Subcommand};
use netra_store::Store;

use crate::config::{Config, Layers, environment};
use crate::exit::{Exit, Problem, TABLE};

/// Runs AI agents for many users at once, on your own machine.
#[derive(Debug, Parser)]
#[command(
    name = "netra",
    version,
    propagate_version = true,
    after_help = TABLE,
    after_long_help = format!(
        "Examples:\n  \
         netra serve --listen 127.0.0.1:8080 --data ./netra-data\n  \
         netra run echo \"hello\"\n  \
         netra run optimizer --file usage.csv \"Cut the cost by 30 %\"\n  \
         netra agents list\n\n\
         Every command explains itself: netra COMMAND --help\n\n{TABLE}"
    ),
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the server.
    Serve(serve::Args),
    /// Run an agent and print its report.
    Run(Box<run::Args>),
    /// Make and list accounts.
    User(user::Args),
    /// Print an access token.
    Token(token::Args),
    /// List, show and check agents.
    Agents(agents::Args),
    /// Print, check and explain the policies: who may call which tools.
    Policy(policy::Args),
    /// Change the key that users' secrets are encrypted with.
    Secrets(secrets::Args),
    /// Check and print audit records.
    Audit(audit::Args),
    /// Follow, print and check the logs of events.
    Events(events::Args),
    /// Show who holds what on a server: slots, memory, sockets, limits reached.
    Isolation(isolation::Args),
    /// List and answer what agents ask a person.
    Approvals(Box<approvals::Args>),
    /// List and try out tool servers.
    Mcp(mcp::Args),
    /// List and try out language models.
    Models(models::Args),
    /// Copy a data folder, while a server runs on it too.
    Backup(backup::BackupArgs),
    /// Make a data folder of a backup.
    Restore(backup::RestoreArgs),
    /// Bring the schema of a data folder up to date.
    #[command(after_help = "Examples:\n  netra migrate --data ./netra-data")]
    Migrate(Folder),
    /// Show what this machine gives the server, and what is missing.
    Doctor(doctor::Args),
    /// Show the configuration in force.
    Config(config::Args),
    /// Print the OpenAPI document of the REST interface.
    #[command(after_help = "Examples:\n  netra openapi > openapi.json")]
    Openapi,
    /// Print a completion script for a shell.
    #[command(after_help = "Examples:\n  netra completion bash > /etc/bash_completion.d/netra")]
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Where the data is: flags that several commands share.
#[derive(Debug, Clone, clap::Args)]
struct Folder {
    /// Folder of the database, files and keys [default: ./netra-data].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Folder {
    fn layers(&self) -> Layers {
        let layers = Layers::new()
            .file(self.config.as_deref())
            .environment(environment());
        match &self.data {
            Some(data) => layers.flag("data.dir", "data", data.display().to_string()),
            None => layers,
        }
    }

    fn load(&self) -> Result<Config, Problem> {
        Ok(Config::load(self.layers())?)
    }
}

/// How long a thread's turn at a processor is: the shortest that there is. A server does little at once and waits
/// much, and whom it makes wait are people.
const TURN: Duration = Duration::from_micros(100);

/// Runs the command of these arguments to its end.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, with the code 0. A closed pipe is no matter.
            error.print().ok();
            return if error.use_stderr() {
                Exit::Usage.into()
            } else {
                Exit::Success.into()
            };
        }
    };
    // Every thread of the program has this from here; workers give it back. Where the system refuses, all works as
    // before, only that it wakes up later on a machine that is busy.
    netra_memory::take_turns_of(Some(TURN)).ok();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return tell(&error.into()),
    };
    let ended = runtime.block_on(Box::pin(command(cli.command)));
    // Blocking work of a command that has failed must not keep the program from ending.
    runtime.shutdown_background();
    match ended {
        Ok(exit) => exit.into(),
        Err(problem) => tell(&problem),
    }
}

async fn command(command: Command) -> Result<Exit, Problem> {
    match command {
        Command::Serve(args) => serve::serve(args).await,
        Command::Run(args) => run::run(*args).await,
        Command::User(args) => user::user(args).await,
        Command::Token(args) => token::token(args).await,
        Command::Agents(args) => agents::agents(args).await,
        Command::Secrets(args) => Box::pin(secrets::secrets(args)).await,
        Command::Audit(args) => audit::audit(args),
        Command::Policy(args) => Box::pin(policy::policy(args)).await,
        Command::Events(args) => Box::pin(events::events(args)).await,
        Command::Isolation(args) => Box::pin(isolation::isolation(args)).await,
        Command::Approvals(args) => Box::pin(approvals::approvals(*args)).await,
        Command::Mcp(args) => Box::pin(mcp::mcp(args)).await,
        Command::Models(args) => Box::pin(models::models(args)).await,
        Command::Backup(args) => backup::backup(&args),
        Command::Restore(args) => backup::restore(&args),
        Command::Migrate(folder) => migrate(&folder),
        Command::Doctor(args) => Box::pin(doctor::doctor(args)).await,
        Command::Config(args) => config::config(&args),
        Command::Openapi => openapi::openapi(),
        Command::Completion { shell } => completion(shell),
    }
}

fn tell(problem: &Problem) -> ExitCode {
    output::note(format!("netra: {:#}", problem.error));
    problem.exit.into()
}

fn migrate(folder: &Folder) -> Result<Exit, Problem> {
    let config = folder.load()?;
    let (what, version) = match &config.database {
        None => (
            config.data.display().to_string(),
            Store::migrate(&config.data),
        ),
        Some(server) => ("the database".to_owned(), Store::migrate_on(server)),
    };
    let version = version.map_err(|error| Problem::new(Exit::Failure, error))?;
    output::line(format!("{what} is at schema version {version}"))?;
    Ok(Exit::Success)
}

fn completion(shell: clap_complete::Shell) -> Result<Exit, Problem> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "netra", &mut script);
    output::line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let mut parts = command
                .get_subcommands()
                .filter(|part| part.get_name() != "help");
            if let Some(first) = parts.next() {
                std::iter::once(first)
                    .chain(parts)
                    .for_each(|part| check(part, &path));
                return;
            }
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(
                help.contains("Examples:\n  netra "),
                "{path} has no example"
            );
        }
        check(&Cli::command(), "");
    }
}
