//! `netra events tail`: follows a log for as long as somebody reads on, over restarts of its server.

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use netra_client::{Backoff, Client, Error, Feed, Received};
use netra_context::Runtime;
use netra_protocol::frame::{After, Subscribe};
use tokio::signal::unix::{SignalKind, signal};

use super::Wanted;
use crate::cli::connection::{Source, Whereabouts, no_folder};
use crate::cli::output;
use crate::config::Config;
use crate::exit::{Exit, Problem};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "It ends with Ctrl-C, SIGTERM, or when nobody reads its output any more, with 0. \
    When the server goes away it waits for it and goes on behind the last event: none is missing, \
    none comes twice. With --data the server is looked for anew each time, and one that does not \
    run yet is waited for; none is started. Tokens of a data folder are renewed; one that was \
    given with --token is not, so give an API key for a long time.\n\n\
    Examples:\n  netra events tail --data ./netra-data --user ada\n  \
    netra events tail --server https://netra.example --token \"$TOKEN\" --json\n  \
    netra events tail --user ada --after 0 --run run_01kanqxk7d2h6n1s5v9x3b8f0j"
)]
pub(super) struct Args {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    wanted: Wanted,
    /// Begin after this number, 0 for all; from now on when absent.
    #[arg(long, value_name = "SEQ")]
    after: Option<u64>,
}

pub(super) async fn tail(args: Args) -> Result<Exit, Problem> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = Box::pin(follow(&args)) => ended?,
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = output::reader_gone() => {}
    }
    Ok(Exit::Success)
}

/// Until nobody reads on.
async fn follow(args: &Args) -> Result<(), Problem> {
    let server = args.source.whereabouts(&args.wanted.user)?;
    let after = args.after.map_or(After::Now, After::Seq);
    let mut wish = args.wanted.subscribe(after);
    let mut feed = Box::pin(begin(&server, &mut wish)).await?;
    let runtime = Runtime::new();
    loop {
        match feed.next_event().await {
            Ok(received) => {
                if show(&runtime, &args.wanted, &received).await?.is_break() {
                    return Ok(());
                }
            }
            Err(error) if error.is_passing() => {
                output::note(format!("the server is away ({error}): waiting for it"));
                if let Some(place) = feed.place() {
                    wish.after = After::Seq(place.seq);
                    wish.epoch = Some(place.epoch);
                }
                let found = server.look().await?;
                feed = Box::pin(wait(&server, found, &wish)).await?;
                output::note("the server is there again");
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// On a thread of its own: a reader that is slow must not keep a signal from being heard.
async fn show(
    runtime: &Runtime,
    wanted: &Wanted,
    received: &Received,
) -> Result<ControlFlow<()>, Problem> {
    let Some(line) = wanted.line(received) else {
        return Ok(ControlFlow::Continue(()));
    };
    let written = runtime.spawn_blocking(move || output::pass(line)).await;
    Ok(written.map_err(io::Error::other)??)
}

/// The first connection. A server that was named has to be there; that of a folder may come.
async fn begin(server: &Whereabouts, wish: &mut Subscribe) -> Result<Feed, Problem> {
    let Whereabouts::Folder { config, user } = server else {
        let named = server.look().await?;
        return match named {
            Some(client) => Ok(open(&client, wish).await?),
            None => wait(server, None, wish).await,
        };
    };
    if !config.data.is_dir() {
        return Err(no_folder(&config.data));
    }
    // Now, and not when the server is there.
    if wish.after == After::Now {
        wish.after = After::Seq(latest(config, user)?);
    }
    let found = server.look().await?;
    if found.is_none() {
        output::note("no server runs on this folder: waiting for one");
    }
    wait(server, found, wish).await
}

/// The last number of the user's log in a folder that may not have one yet.
fn latest(config: &Config, user: &str) -> Result<u64, Problem> {
    if !config.has_database() {
        return Ok(0);
    }
    let owners = config.logs()?.owners()?;
    let own = owners
        .iter()
        .find(|owner| owner.name.eq_ignore_ascii_case(user));
    Ok(own.map_or(0, |owner| owner.latest_seq))
}

/// A connection to the server that was found, or to the next one, however long it takes.
async fn wait(
    server: &Whereabouts,
    mut found: Option<Client>,
    wish: &Subscribe,
) -> Result<Feed, Problem> {
    let seconds = Duration::from_secs;
    let mut backoff = Backoff::new(seconds(1) / 10, seconds(2), Duration::MAX);
    loop {
        let asked = match found {
            Some(client) => match open(&client, wish).await {
                Ok(feed) => return Ok(feed),
                Err(error) if error.is_passing() => error.retry_after(),
                Err(error) => return Err(error.into()),
            },
            None => None,
        };
        let pause = backoff.next_wait(asked).unwrap_or(seconds(2));
        tokio::time::sleep(pause).await;
        found = server.look().await?;
    }
}

/// One attempt.
async fn open(client: &Client, wish: &Subscribe) -> Result<Feed, Error> {
    let opened = Box::pin(Feed::open(client, wish.clone())).await?;
    // A break is told at once: the next server may be at another address.
    let impatient = Backoff::new(Duration::ZERO, Duration::ZERO, Duration::ZERO);
    Ok(opened.with_backoff(impatient))
}
