//! `netra agents`: which agents there are, and what is wrong with their files.

use std::path::PathBuf;

use clap::Subcommand;
use netra_protocol::agent::Agent;

use super::{Folder, output};
use crate::config::{Config, Layers};
use crate::exit::{Exit, Problem};
use crate::node;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the agents and whether they can run.
    #[command(after_help = "Examples:\n  netra agents list\n  \
        netra agents list --agents ./agents --json")]
    List {
        #[command(flatten)]
        place: Place,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show one agent.
    #[command(after_help = "Examples:\n  netra agents show optimizer")]
    Show {
        /// The agent's name.
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Check the agents' files; names file and line of what is wrong.
    #[command(after_help = "Ends with 0 when every agent's files are right, else with 1.\n\n\
        Examples:\n  netra agents check --agents ./agents")]
    Check {
        #[command(flatten)]
        place: Place,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Place {
    /// Folder of agents besides the built-in ones.
    #[arg(long, value_name = "DIR")]
    agents: Option<PathBuf>,
    #[command(flatten)]
    folder: Folder,
}

impl Place {
    fn layers(&self) -> Layers {
        let layers = self.folder.layers();
        match &self.agents {
            Some(dir) => layers.flag("agents.dir", "agents", dir.display().to_string()),
            None => layers,
        }
    }

    fn load(&self) -> Result<Vec<Agent>, Problem> {
        let config = Config::load(self.layers())?;
        let registry = node::registry()?;
        let models = node::models(&config)?;
        let agents = node::agents(&config, &registry, &models);
        Ok(agents.all().map(|agent| agent.describe()).collect())
    }
}

pub(super) fn agents(args: Args) -> Result<Exit, Problem> {
    match args.command {
        Command::List { place, json } => list(&place.load()?, json),
        Command::Show { name, place } => show(&place.load()?, &name),
        Command::Check { place, json } => check(place.load()?, json),
    }
}

fn list(agents: &[Agent], json: bool) -> Result<Exit, Problem> {
    if json {
        output::json(&agents)?;
        return Ok(Exit::Success);
    }
    let head = ["NAME", "KIND", "READY", "DESCRIPTION"].map(str::to_owned).to_vec();
    let rows = agents.iter().map(|agent| {
        let ready = if agent.ready { "yes" } else { "no" };
        let told = agent.problem.clone().unwrap_or_else(|| agent.description.clone());
        vec![agent.name.clone(), kind(agent), ready.to_owned(), told]
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    output::line(output::table(&rows))?;
    Ok(Exit::Success)
}

fn kind(agent: &Agent) -> String {
    format!("{:?}", agent.kind).to_lowercase()
}

fn show(agents: &[Agent], name: &str) -> Result<Exit, Problem> {
    match agents.iter().find(|agent| agent.name == name) {
        Some(agent) => {
            output::json(agent)?;
            Ok(Exit::Success)
        }
        None => Err(Problem::message(
            Exit::Failure,
            format!("there is no agent `{name}`: `netra agents list` shows which there are"),
        )),
    }
}

fn check(agents: Vec<Agent>, json: bool) -> Result<Exit, Problem> {
    let count = agents.len();
    let broken: Vec<_> = agents.into_iter().filter(|agent| !agent.ready).collect();
    if json {
        output::json(&broken)?;
    } else {
        for agent in &broken {
            let problem = agent.problem.as_deref().unwrap_or("not ready");
            output::line(format!("{}: {problem}", agent.name))?;
        }
        output::note(format!("{count} agents, {} with a problem", broken.len()));
    }
    Ok(if broken.is_empty() { Exit::Success } else { Exit::Failure })
}
