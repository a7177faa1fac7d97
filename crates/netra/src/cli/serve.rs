//! `netra serve`: the server, from ready to drained.

use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};

use super::{Folder, output};
use crate::config::{Config, Layers};
use crate::exit::{Exit, Problem};
use crate::logs::{self, Level};
use crate::node::Node;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "When it is ready it prints one line: ready http://ADDRESS:PORT. \
    Logs go to standard error. SIGTERM or Ctrl-C ends it after the runs had time to end; \
    SIGHUP has the configuration and the agents' files read again.\n\n\
    Examples:\n  netra serve\n  \
    netra serve --listen 127.0.0.1:0 --data /var/lib/netra --agents ./agents\n  \
    NETRA__AUTH__REGISTRATION=open netra serve"
)]
pub(super) struct Args {
    /// Address and port; port 0 takes a free one [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    #[command(flatten)]
    folder: Folder,
    /// Folder of agents besides the built-in ones.
    #[arg(long, value_name = "DIR")]
    agents: Option<PathBuf>,
    /// Sign a browser on this machine in as `local`; needs a loopback address.
    #[arg(long)]
    dev: bool,
}

impl Args {
    fn layers(&self) -> Layers {
        let mut layers = self.folder.layers();
        if let Some(listen) = &self.listen {
            layers = layers.flag("server.listen", "listen", listen.clone());
        }
        if let Some(agents) = &self.agents {
            layers = layers.flag("agents.dir", "agents", agents.display().to_string());
        }
        if self.dev {
            layers = layers.flag("server.dev", "dev", true);
        }
        layers
    }
}

/// This program as it was called, so that what is printed can be typed as it stands.
fn program() -> String {
    let called = std::env::args_os().next().map(std::path::PathBuf::from);
    let called = called.unwrap_or_else(|| "netra".into());
    let here = std::env::current_dir().ok();
    let short = here
        .as_deref()
        .and_then(|here| called.strip_prefix(here).ok());
    short.unwrap_or(&called).display().to_string()
}

/// Reads the configuration again, and takes all of it over that a running server can, or nothing.
fn take_over(node: &Node, level: &Level, layers: &Layers) -> Result<(), Problem> {
    let config = Config::load(layers.clone())?;
    let filter = Level::read(&config.log_level)?;
    let read = node.reload(&config)?;
    // The last that can fail.
    level.set(filter)?;
    read.take_over();
    Ok(())
}

/// Takes the configuration and the agents' files over again, or leaves everything as it was; the log says which.
async fn reload(node: &Node, level: &Level, layers: &Layers) {
    match take_over(node, level, layers) {
        Ok(()) => {
            tracing::info!("the configuration was read again, and all of it is in force");
            node.reload_agents().await;
        }
        Err(problem) => {
            tracing::error!(
                "nothing is reloaded, everything stays as it was: {}",
                problem.error
            )
        }
    }
}

pub(super) async fn serve(args: Args) -> Result<Exit, Problem> {
    let config = Config::load(args.layers())?;
    let level = logs::start(config.log_format, &config.log_level)?;
    // From here on a signal drains, even one that comes before the server is ready.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let data = config.data.clone();
    let node = Box::pin(Node::start(config)).await?;
    if let Some(link) = node.setup_link() {
        output::note(format!(
            "No users yet. Make the first admin at\n  {link}\nor try an agent without an \
             account:\n  {} run echo --data {} \"hello\"",
            program(),
            data.display()
        ));
    }
    // Last, so that whoever waits for this line finds all the others written.
    output::line(format!("ready {}", node.url()))?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => reload(&node, &level, &args.layers()).await,
        }
    }
    tracing::info!("stopping: no new runs; the running ones have time to end");
    tokio::select! {
        left = node.stop() => {
            if left > 0 {
                tracing::warn!(tasks.left = left, "stopped before everything had ended");
            }
        }
        // Whoever asks twice does not want to wait.
        _ = interrupt.recv() => tracing::warn!("stopped at once"),
    }
    Ok(Exit::Success)
}
