//! `netra doctor`: what this machine gives the server, tried and not guessed.

use std::path::Path;

use netra_context::Runtime;
use netra_mcp::Place;
use netra_store::DirLock;
use netra_worker::sandbox::{Attempt, Layers, Sandbox, Tier, Trial};
use serde::Serialize;

use super::{Folder, output};
use crate::config::Config;
use crate::exit::{Exit, Problem};
use crate::machine_layers::{self, Layer};
use crate::server_file::ServerFile;

/// Fewer open files than this serve few users.
const FEW_FILES: u64 = 4096;
/// Less free space than this is soon full.
const LITTLE_SPACE: u64 = 1 << 30;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Runs a process in a sandbox as programs from outside get it, and lets it try to get \
    out. Ends with 1 when something is missing that the configuration asks for (`sandbox.require`), \
    or that every server needs.\n\n\
    Examples:\n  netra doctor\n  \
    netra doctor --config netra.toml --json\n  \
    NETRA__SANDBOX__REQUIRE=namespaces netra doctor"
)]
pub(super) struct Args {
    #[command(flatten)]
    folder: Folder,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Everything that was looked at.
#[derive(Debug, Serialize)]
struct Findings {
    /// What holds programs from outside.
    sandbox: SandboxFindings,
    /// The rest, in the order of the page.
    checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct SandboxFindings {
    tier: Tier,
    required: Tier,
    layers: Option<Layers>,
    /// What a process in it has tried.
    attempts: Vec<Attempt>,
    checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct Check {
    name: String,
    state: State,
    /// What was found, and where something is missing how to get it.
    words: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Good,
    /// The server works without it.
    Missing,
    /// Something does not work, or is required and missing.
    Bad,
}

pub(super) async fn doctor(args: Args) -> Result<Exit, Problem> {
    let config = args.folder.load()?;
    let findings = Findings {
        sandbox: sandbox(&config).await,
        checks: vec![data(&config.data), files(), space(&config.sandbox.temp)],
    };
    if args.json {
        output::json(&findings)?;
    } else {
        output::line(shown(&findings))?;
    }
    let mut checks = findings.sandbox.checks.iter().chain(&findings.checks);
    let bad = checks.any(|check| check.state == State::Bad);
    Ok(if bad { Exit::Failure } else { Exit::Success })
}

async fn sandbox(config: &Config) -> SandboxFindings {
    let required = config.sandbox.require;
    let trial = Sandbox::new(config.sandbox.clone(), Runtime::new())
        .try_out()
        .await;
    let trial = match trial {
        Ok(trial) => trial,
        Err(error) => {
            return SandboxFindings {
                tier: Tier::None,
                required,
                layers: None,
                attempts: Vec::new(),
                checks: vec![Check::new(
                    "sandbox",
                    State::Bad,
                    format!("none can be made: {error}"),
                )],
            };
        }
    };
    let tier = trial.layers.tier();
    let met = if tier >= required {
        Check::new(
            "tier",
            State::Good,
            format!("{}; required: {}", tier.as_str(), required.as_str()),
        )
    } else {
        let words = match required > Tier::Basic {
            true => "no server starts",
            false => "programs from outside are refused",
        };
        let words = format!(
            "{}; required: {}: {words}",
            tier.as_str(),
            required.as_str()
        );
        Check::new("tier", State::Bad, words)
    };
    SandboxFindings {
        tier,
        required,
        layers: Some(trial.layers),
        checks: std::iter::once(met)
            .chain(layers(&trial.layers, config))
            .chain(attempts(&trial))
            .chain(network(config))
            .collect(),
        attempts: trial.attempts,
    }
}

fn layers(found: &Layers, config: &Config) -> Vec<Check> {
    let shown = |layer: Layer| {
        let state = match layer.is_there {
            true => State::Good,
            false => State::Missing,
        };
        Check::new(layer.name, state, layer.words)
    };
    let layers = machine_layers::layers(found, config);
    layers.into_iter().map(shown).collect()
}

/// No layer narrows a network that is granted.
fn network(config: &Config) -> Option<Check> {
    let reaches = |server: &&netra_mcp::ServerConfig| matches!(&server.place, Place::Stdio(command) if command.network);
    let servers = config.mcp.servers.iter();
    let granted: Vec<&str> = servers
        .filter(|(_, server)| reaches(server))
        .map(|(name, _)| name.as_str())
        .collect();
    (!granted.is_empty()).then(|| {
        let words = format!(
            "granted to {}: they reach what this machine reaches, with 127.0.0.1 (this server too) and \
             169.254.169.254 (the metadata of clouds)",
            granted.join(", ")
        );
        Check::new("network", State::Missing, words)
    })
}

/// What holds by name must hold in fact.
fn attempts(trial: &Trial) -> Vec<Check> {
    let is_held = trial.layers.tier() > Tier::None;
    let failed = trial.attempts.iter().filter(|attempt| !attempt.held);
    let mut checks: Vec<Check> = failed
        .map(|attempt| {
            let state = if is_held { State::Bad } else { State::Missing };
            Check::new("trial", state, format!("a program can {}", attempt.what))
        })
        .collect();
    if checks.is_empty() {
        let count = trial.attempts.len();
        checks.push(Check::new(
            "trial",
            State::Good,
            format!("{count} attempts to get out have failed"),
        ));
    }
    checks
}

fn data(folder: &Path) -> Check {
    let shown = folder.display();
    if !folder.exists() {
        return Check::new(
            "data",
            State::Good,
            format!("{shown} is not there yet: `netra serve` makes it"),
        );
    }
    match DirLock::take(folder) {
        Ok(_) => Check::new(
            "data",
            State::Good,
            format!("{shown} can be written; no server runs on it"),
        ),
        Err(netra_store::Error::InUse { .. }) => {
            let server = ServerFile::read(folder)
                .map_or(String::new(), |file| format!(" at {}", file.address));
            Check::new(
                "data",
                State::Good,
                format!("{shown} is in use by a server{server}"),
            )
        }
        Err(error) => Check::new("data", State::Bad, error.to_string()),
    }
}

fn files() -> Check {
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    match most {
        Some(most) if most < FEW_FILES => {
            let words = format!(
                "{most} can be open at once: `ulimit -Hn`, or LimitNOFILE= of systemd, allows more"
            );
            Check::new("files", State::Missing, words)
        }
        Some(most) => Check::new("files", State::Good, format!("{most} can be open at once")),
        None => Check::new(
            "files",
            State::Good,
            "any number can be open at once".to_owned(),
        ),
    }
}

fn space(folder: &Path) -> Check {
    let shown = folder.display();
    match rustix::fs::statvfs(folder) {
        Err(error) => Check::new(
            "temp",
            State::Bad,
            format!("{shown}: {error}; `sandbox.temp` names another"),
        ),
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let state = if free < LITTLE_SPACE {
                State::Missing
            } else {
                State::Good
            };
            Check::new(
                "temp",
                state,
                format!("{shown} has {} MiB free", free >> 20),
            )
        }
    }
}

impl Check {
    fn new(name: &str, state: State, words: String) -> Check {
        Check {
            name: name.to_owned(),
            state,
            words,
        }
    }

    fn row(&self) -> Vec<String> {
        let state = match self.state {
            State::Good => "ok",
            State::Missing => "-",
            State::Bad => "BAD",
        };
        vec![state.to_owned(), self.name.clone(), self.words.clone()]
    }
}

fn shown(findings: &Findings) -> String {
    let rows = |checks: &[Check]| output::table(&checks.iter().map(Check::row).collect::<Vec<_>>());
    format!(
        "Sandbox for programs from outside\n{}\n\nServer\n{}",
        rows(&findings.sandbox.checks),
        rows(&findings.checks)
    )
}
