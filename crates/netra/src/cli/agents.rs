//! `netra agents`: which agents there are, what is wrong with their files, and new ones.

mod new;
mod scripts;

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Subcommand;
use netra_engine::agents::Agents;
use netra_protocol::agent::Agent;
use netra_tools::Registry;

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
    /// Make a folder with a new agent that works as it is.
    #[command(
        after_help = "Nothing that is there is written over. The folder is --agents, or agents.dir of the \
        configuration, or ./agents.\n\nExamples:\n  netra agents new log-size\n  \
        netra agents new helper --kind model --agents ./my-agents\n  \
        netra agents new own-code --kind http"
    )]
    New {
        /// The agent's name: a lower-case letter, then at most 63 letters, digits, `_` or `-`.
        name: String,
        /// How it is made.
        #[arg(long, value_enum, default_value = "script")]
        kind: new::Kind,
        #[command(flatten)]
        place: Place,
    },
    /// Write the types of what each script finds set, for editors and type checkers.
    #[command(
        after_help = "Each script agent of the folder gets a file `__builtins__.pyi`, which ty and Pyright \
        read by themselves.\n\nExamples:\n  netra agents stubs --agents ./my-agents\n  \
        uvx ty check --project ./my-agents/log-size"
    )]
    Stubs {
        #[command(flatten)]
        place: Place,
    },
    /// Check the agents' files, scripts too; names file and line of what is wrong.
    #[command(
        after_help = "Ends with 0 when every agent's files are right, else with 1.\n\n\
        Examples:\n  netra agents check --agents ./agents"
    )]
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

    fn load(&self) -> Result<Found, Problem> {
        let config = Config::load(self.layers())?;
        let registry = node::registry(&config)?;
        let models = node::models(&config)?;
        let agents = node::agents(&config, &registry, &models);
        Ok(Found {
            agents: agents
                .all()
                .iter()
                .map(|agent| agent.describe(&BTreeSet::new()))
                .collect(),
            no_model: models.resolve(None).err().map(|error| error.to_string()),
            whole: Whole {
                config,
                registry,
                agents,
            },
        })
    }
}

/// What the agents were read with.
struct Whole {
    config: Config,
    registry: Registry,
    agents: Agents,
}

/// The agents, and what those that want a model say where none is configured.
struct Found {
    agents: Vec<Agent>,
    no_model: Option<String>,
    whole: Whole,
}

impl Found {
    /// Whether nothing but a configured model is missing: that is no defect of the files.
    fn lacks_model_only(&self, agent: &Agent) -> bool {
        match (&agent.problem, &self.no_model) {
            (Some(problem), Some(no_model)) => problem.ends_with(no_model),
            _ => false,
        }
    }
}

pub(super) async fn agents(args: Args) -> Result<Exit, Problem> {
    match args.command {
        Command::New { name, kind, place } => {
            let config = Config::load(place.layers())?;
            let dir = config.agents.unwrap_or_else(|| PathBuf::from("agents"));
            new::new(&name, kind, &dir)
        }
        Command::Stubs { place } => scripts::write_stubs(&place.load()?.whole),
        Command::List { place, json } => list(&place.load()?.agents, json),
        Command::Show { name, place } => show(&place.load()?.agents, &name),
        Command::Check { place, json } => {
            let mut found = place.load()?;
            scripts::read(&mut found).await?;
            check(&found, json)
        }
    }
}

fn list(agents: &[Agent], json: bool) -> Result<Exit, Problem> {
    if json {
        output::json(&agents)?;
        return Ok(Exit::Success);
    }
    let head = ["NAME", "KIND", "READY", "DESCRIPTION"]
        .map(str::to_owned)
        .to_vec();
    let rows = agents.iter().map(|agent| {
        let ready = if agent.ready { "yes" } else { "no" };
        let told = agent
            .problem
            .clone()
            .unwrap_or_else(|| agent.description.clone());
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

fn check(found: &Found, json: bool) -> Result<Exit, Problem> {
    let not_ready = found.agents.iter().filter(|agent| !agent.ready);
    let (waiting, broken): (Vec<_>, Vec<_>) =
        not_ready.partition(|agent| found.lacks_model_only(agent));
    let told = |agent: &Agent| {
        format!(
            "{}: {}",
            agent.name,
            agent.problem.as_deref().unwrap_or("not ready")
        )
    };
    if json {
        output::json(&broken)?;
    } else {
        for agent in &broken {
            output::line(told(agent))?;
        }
        for agent in &waiting {
            output::note(format!("(not counted) {}", told(agent)));
        }
        output::note(format!(
            "{} agents, {} with a problem",
            found.agents.len(),
            broken.len()
        ));
    }
    Ok(if broken.is_empty() {
        Exit::Success
    } else {
        Exit::Failure
    })
}
