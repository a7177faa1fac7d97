//! Benchmarks over the public contract, against the server's own binary.

mod bare;
mod events;
mod greed;
mod growth;
mod http;
mod isolation;
mod lean;
mod model;
mod noise;
mod overload;
mod report;
mod runs;
mod server;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use netra_integration::greed::{MEANS, Plan};
use netra_integration::noise::{Rate, WAYS};

#[derive(Debug, Parser)]
#[command(name = "netra-bench", about = "Benchmarks of the Netra server")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs of `echo`, or of an agent with one call of a tool, created over REST and awaited, signed in, durable.
    Runs {
        /// How many clients at the same time; each is a user of its own.
        #[arg(long, value_delimiter = ',', default_value = "1,10,50,200")]
        clients: Vec<usize>,
        /// How long to measure each.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// Where the server has its rows; `cargo xtask bench` starts a PostgreSQL for it.
        #[arg(long, value_enum, default_value_t = Database::Sqlite)]
        database: Database,
        /// Each run calls a tool once, out of a script.
        #[arg(long)]
        with_tool: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// The way of an event: appended, fanned out, replayed; sockets at rest. Each beside a bare
    /// prototype in the same run.
    Events {
        /// Only these: fanout, append, latency, idle, replay.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// The program that appends with and without the store.
        #[arg(long)]
        append: Option<PathBuf>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// One user takes memory by every means there is, while others have their runs; fails where the
    /// user held more than 1.1 of the limit, or one of the others' runs did not complete.
    Greed {
        /// Only these: script, query, upload, body, "tool result", "model output", "event flood",
        /// sockets.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// How often each means is tried, in a row.
        #[arg(long, default_value_t = 20)]
        rounds: usize,
        /// The user's limit.
        #[arg(long, default_value_t = 512)]
        limit_mib: u64,
        /// Users beside.
        #[arg(long, default_value_t = 50)]
        others: usize,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// How long others wait for the first event of a run beside a noisy user, quiet and noisy in turns; fails where
    /// the 99th percentile is more than twice the quiet one.
    Noise {
        /// Only these: scripts, memory, events, queue, sockets, uploads.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// Turns of each; a second and a half on each side of one, ten seconds with a rate as shipped.
        #[arg(long, default_value_t = 6)]
        rounds: usize,
        /// The noisy user may ask as often as a server lets users unless it is told otherwise, and asks on where it is
        /// refused. Without it, as often as it likes.
        #[arg(long)]
        as_shipped: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Engines made, engines at rest, what counting memory costs, how exact the accounts are, and
    /// whether many runs leave anything behind; fails where what must be reached is not.
    Isolation {
        /// Only these: creation, idle, cost, error, growth.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// The folder with the programs `counted`, `uncounted` and `measured`.
        #[arg(long)]
        programs: PathBuf,
        /// How long each measurement of cost and error takes.
        #[arg(long, default_value_t = 3)]
        seconds: u64,
        /// How many runs to look for growth over.
        #[arg(long, default_value_t = 100_000)]
        runs: usize,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// The layers around a tool that does nothing, without the commits.
    Tools {
        /// The folder with the program `layers`.
        #[arg(long)]
        programs: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// What Netra itself adds to a call of a model; fails where the median is not under 1 ms.
    Model {
        /// How many calls at the same time.
        #[arg(long, default_value_t = 100)]
        calls: usize,
        /// How long to measure.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// What the edge costs: `GET /api/auth/me`, signed in, against a bare handler; fails where it is not 0.6 of that.
    Http {
        /// The program wrk.
        #[arg(long)]
        wrk: PathBuf,
        /// How long to measure each time.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// What a server answers of which more is asked than it can do, and after how long.
    Overload {
        /// How many clients at the same time; each is a user of its own.
        #[arg(long, value_delimiter = ',', default_value = "50,500,2000")]
        clients: Vec<usize>,
        /// How long to measure each.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// The bare prototype of a socket server.
    #[command(hide = true)]
    Bare,
    /// The bare handler, and what it answers.
    #[command(hide = true)]
    BareHttp { answer: String },
}

/// Where the server under load has its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum Database {
    /// In its data folder.
    Sqlite,
    /// On a server on the same machine.
    Postgres,
}

/// As the server's: whoever measures has a machine of its own elsewhere, and does not wait there for the noise.
const TURN: Duration = Duration::from_micros(100);

fn main() -> ExitCode {
    netra_memory::take_turns_of(Some(TURN)).ok();
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            runtime.block_on(async {
                match Cli::parse().command {
                    Command::Runs {
                        clients,
                        seconds,
                        database,
                        with_tool,
                        json,
                    } => {
                        let time = Duration::from_secs(seconds);
                        runs::runs(&clients, time, database, with_tool, json).await
                    }
                    Command::Events { only, append, json } => {
                        Box::pin(events::events(&only, append.as_deref(), json)).await
                    }
                    Command::Greed {
                        only,
                        rounds,
                        limit_mib,
                        others,
                        json,
                    } => {
                        let plan = Plan {
                            means: report::wanted(&MEANS, &only)?,
                            rounds,
                            limit_mib,
                            others,
                        };
                        Box::pin(greed::measure(plan, json)).await
                    }
                    Command::Noise {
                        only,
                        rounds,
                        as_shipped,
                        json,
                    } => {
                        let rate = if as_shipped {
                            Rate::AsShipped
                        } else {
                            Rate::Unlimited
                        };
                        let wanted = report::wanted(&WAYS, &only)?;
                        noise::measure(wanted, rounds, rate, json).await
                    }
                    Command::Isolation {
                        only,
                        programs,
                        seconds,
                        runs,
                        json,
                    } => {
                        let bench = isolation::Bench {
                            programs,
                            seconds,
                            runs,
                        };
                        Box::pin(bench.measure(&only, json)).await
                    }
                    Command::Tools { programs, json } => tools::tools(&programs, json).await,
                    Command::Model {
                        calls,
                        seconds,
                        json,
                    } => Box::pin(model::model(calls, Duration::from_secs(seconds), json)).await,
                    Command::Http { wrk, seconds, json } => {
                        Box::pin(http::http(&wrk, Duration::from_secs(seconds), json)).await
                    }
                    Command::Overload {
                        clients,
                        seconds,
                        json,
                    } => overload::overload(&clients, Duration::from_secs(seconds), json).await,
                    Command::Bare => bare::sockets().await,
                    Command::BareHttp { answer } => http::bare(&answer).await,
                }
            })
        });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(&format!("netra-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(
    clippy::print_stdout,
    reason = "a benchmark's result is what it prints"
)]
fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "what is not the result")]
fn note(text: &str) {
    eprintln!("{text}");
}
