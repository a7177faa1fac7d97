//! `netra events`: follow a log, print it, check it.

mod judge;
mod line;
mod verify;

use clap::Subcommand;
use netra_client::{Feed, Incoming, Received, Socket};
use netra_protocol::frame::{After, ServerFrame, Subscribe};
use netra_protocol::id::{RunId, ThreadId};

use super::connection::Connection;
use super::{Folder, output};
use crate::config::Config;
use crate::exit::{Exit, Problem};
use crate::logs;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Follow a user's events as they come; goes on over restarts of the server.
    Tail(TailArgs),
    /// Print what the log holds, and end.
    Replay(ReplayArgs),
    /// Check logs: order, pairs, and what is missing without a reason.
    Verify(verify::Args),
}

/// Whose log it is, and where.
#[derive(Debug, clap::Args)]
struct Source {
    /// Address of a server, such as https://netra.example.
    #[arg(long, value_name = "URL", requires = "token", conflicts_with_all = ["data", "user"])]
    server: Option<String>,
    /// Access token or API key for --server.
    #[arg(long, env = "NETRA_TOKEN", hide_env_values = true)]
    token: Option<String>,
    #[command(flatten)]
    folder: Folder,
    /// Whose log it is.
    #[arg(long, value_name = "NAME", default_value = "local")]
    user: String,
}

/// Which events are wanted.
#[derive(Debug, clap::Args)]
struct Wanted {
    /// Only of this conversation.
    #[arg(long, value_name = "ID")]
    thread: Option<ThreadId>,
    /// Only of this run.
    #[arg(long, value_name = "ID")]
    run: Option<RunId>,
    /// Pieces of messages too; whole messages come anyway.
    #[arg(long)]
    deltas: bool,
    /// As on the wire, one JSON object per line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  netra events tail --data ./netra-data --user ada\n  \
    netra events tail --server https://netra.example --token \"$TOKEN\" --json\n  \
    netra events tail --user ada --after 0 --run run_01kanqxk7d2h6n1s5v9x3b8f0j"
)]
struct TailArgs {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    wanted: Wanted,
    /// Begin after this number, 0 for all; from now on when absent.
    #[arg(long, value_name = "SEQ")]
    after: Option<u64>,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  netra events replay --user ada > ada.log\n  \
    netra events replay --user ada --after 1000 --until 2000 --json"
)]
struct ReplayArgs {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    wanted: Wanted,
    /// Begin after this number.
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    after: u64,
    /// End with this number.
    #[arg(long, value_name = "SEQ")]
    until: Option<u64>,
}

pub(super) async fn events(args: Args) -> Result<Exit, Problem> {
    match args.command {
        Command::Tail(args) => tail(args).await,
        Command::Replay(args) => replay(args).await,
        Command::Verify(args) => verify::verify(args).await,
    }
}

impl Source {
    async fn connect(&self) -> Result<Connection, Problem> {
        if let (Some(server), Some(token)) = (&self.server, &self.token) {
            return Connection::to(server, token.clone());
        }
        let layers = self.folder.layers();
        let layers = layers.flag("server.listen", "private", "127.0.0.1:0");
        let config = Config::load(layers)?;
        logs::start(config.log_format, "warn")?;
        Connection::by_folder(config, &self.user).await
    }
}

impl Wanted {
    fn subscribe(&self, after: After) -> Subscribe {
        Subscribe {
            after,
            epoch: None,
            threads: self.thread.map(|thread| vec![thread]),
            deltas: self.deltas,
        }
    }

    fn show(&self, received: &Received) -> Result<(), Problem> {
        if self
            .run
            .is_none_or(|run| run == received.event.event.run_id)
        {
            if self.json {
                output::line(&received.text)?;
            } else {
                output::line(line::of(&received.event))?;
            }
        }
        Ok(())
    }
}

async fn tail(args: TailArgs) -> Result<Exit, Problem> {
    let connection = args.source.connect().await?;
    if connection.is_private() {
        output::note("no server runs on this folder; this command's own one is followed");
    }
    let after = args.after.map_or(After::Now, After::Seq);
    let follow = async {
        let wish = args.wanted.subscribe(after);
        let mut feed = Box::pin(Feed::open(&connection.client, wish)).await?;
        loop {
            args.wanted.show(&feed.next_event().await?)?;
        }
    };
    let ended = tokio::select! {
        ended = follow => ended,
        _ = tokio::signal::ctrl_c() => Ok(Exit::Success),
    };
    connection.close().await;
    ended
}

async fn replay(args: ReplayArgs) -> Result<Exit, Problem> {
    let connection = args.source.connect().await?;
    let ended = Box::pin(print(&args, &connection)).await;
    connection.close().await;
    ended.map(|()| Exit::Success)
}

async fn print(args: &ReplayArgs, connection: &Connection) -> Result<(), Problem> {
    let mut socket = Box::pin(Socket::connect(&connection.client)).await?;
    let wish = args.wanted.subscribe(After::Seq(args.after));
    let latest = socket.subscribe(wish).await?.latest_seq;
    let until = args.until.unwrap_or(latest).min(latest);
    let mut seen = args.after;
    while seen < until {
        match socket.next_incoming().await? {
            Incoming::Event(received) => {
                seen = received.event.seq;
                if seen <= until {
                    args.wanted.show(&received)?;
                }
            }
            Incoming::Frame(ServerFrame::Position { seq }) => seen = seq,
            Incoming::Frame(_) => {}
        }
    }
    Ok(())
}
