//! `netra config`: what is in force, and why.

use clap::Subcommand;
use netra_mcp::Place;

use super::{Folder, output};
use crate::exit::{Exit, Problem};
use crate::{node, server_secrets};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print every key with its value and where that comes from.
    #[command(after_help = "Examples:\n  netra config print\n  \
        NETRA__LIMITS__CONCURRENT_RUNS=10 netra config print --json")]
    Print {
        #[command(flatten)]
        folder: Folder,
        /// As JSON, with the meaning of each key.
        #[arg(long)]
        json: bool,
    },
    /// Read everything that a server reads at its start, and say what is wrong. Ends with 0 only if a server would start
    /// with it.
    #[command(after_help = "Examples:\n  netra config check --config netra.toml")]
    Check {
        #[command(flatten)]
        folder: Folder,
    },
}

/// Reads what the configuration names, too: policies, models, secrets.
fn check(folder: &Folder) -> Result<Exit, Problem> {
    let config = folder.load()?;
    node::registry(&config)?;
    node::models(&config)?;
    programs(&config.mcp)?;
    if let Some(path) = &config.server_secrets {
        server_secrets::read(path).map_err(node::Error::Secrets)?;
    }
    output::line("the configuration is good")?;
    Ok(Exit::Success)
}

/// A server would start without them, and say of each tool server that it is away.
fn programs(config: &netra_mcp::Config) -> Result<(), Problem> {
    for (name, server) in &config.servers {
        if let Place::Stdio(command) = &server.place
            && !command.program.is_file()
        {
            let path = command.program.display();
            let words = format!("mcp.servers.{name}: command: there is no file {path}");
            return Err(Problem::message(Exit::Usage, words));
        }
    }
    Ok(())
}

pub(super) fn config(args: &Args) -> Result<Exit, Problem> {
    let (folder, json) = match &args.command {
        Command::Print { folder, json } => (folder, json),
        Command::Check { folder } => return check(folder),
    };
    let layers = folder.layers();
    let settings = layers.settings()?;
    // Values that do not fit each other are refused here as when serving.
    folder.load()?;
    if *json {
        output::json(&settings)?;
        return Ok(Exit::Success);
    }
    let rows: Vec<_> = settings
        .iter()
        .map(|setting| {
            let value = match &setting.value {
                serde_json::Value::Null => "(unset)".to_owned(),
                serde_json::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            vec![setting.key.clone(), value, setting.source.to_string()]
        })
        .collect();
    output::line(output::table(&rows))?;
    Ok(Exit::Success)
}
