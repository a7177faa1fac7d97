//! `netra events`: follow a log, print it, check it.

mod judge;
mod line;
mod tail;
mod verify;

use clap::Subcommand;
use netra_client::{Feed, Received};
use netra_protocol::frame::{After, Subscribe};
use netra_protocol::id::{RunId, ThreadId};

use super::connection::{Connection, Source};
use super::output;
use crate::exit::{Exit, Problem};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Follow a user's events as they come; goes on over restarts of the server.
    Tail(tail::Args),
    /// Print what the log holds, and end.
    Replay(ReplayArgs),
    /// Check logs: order, pairs, and what is missing without a reason.
    Verify(verify::Args),
}

/// Which events are wanted.
#[derive(Debug, clap::Args)]
struct Wanted {
    /// Whose log it is.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "local",
        conflicts_with = "server"
    )]
    user: String,
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
        Command::Tail(args) => tail::tail(args).await,
        Command::Replay(args) => replay(args).await,
        Command::Verify(args) => verify::verify(args).await,
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

    /// The event as it is printed; none when it is of another run.
    fn line(&self, received: &Received) -> Option<String> {
        let run = received.event.event.run_id;
        let wanted = self.run.is_none_or(|wanted| wanted == run);
        wanted.then(|| match self.json {
            true => received.text.clone(),
            false => line::of(&received.event),
        })
    }
}

async fn replay(args: ReplayArgs) -> Result<Exit, Problem> {
    let connection = args.source.connect(&args.wanted.user).await?;
    let ended = Box::pin(print(&args, &connection)).await;
    connection.close().await;
    ended.map(|()| Exit::Success)
}

async fn print(args: &ReplayArgs, connection: &Connection) -> Result<(), Problem> {
    let wish = args.wanted.subscribe(After::Seq(args.after));
    let mut feed = Box::pin(Feed::open(&connection.client, wish)).await?;
    let until = args.until.unwrap_or(u64::MAX).min(feed.latest_seq());
    while let Some(received) = feed.next_until(until).await? {
        if let Some(line) = args.wanted.line(&received)
            && output::pass(line)?.is_break()
        {
            break;
        }
    }
    Ok(())
}
