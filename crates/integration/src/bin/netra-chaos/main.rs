//! `netra-chaos`: many users and a server that dies, behind a network that breaks. In the end
//! everybody has what the log says: nothing lost, nothing twice, nothing out of order.

mod cluster;
mod disturb;
mod list;
mod load;
mod verdict;
mod victim;
mod watch;
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use netra_client::{Client, Socket};
use netra_context::runtime::TaskKind;
use netra_integration::{Request, config_beside};
use netra_protocol::id::UserId;
use netra_protocol::run::RunStatus;
use netra_protocol::thread::CreateThread;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::cluster::Cluster;
use crate::disturb::disturb;
use crate::list::List;
use crate::load::{Accepted, LANES, Lane};
use crate::verdict::{Logs, judge_effects};
use crate::watch::{Habit, Watcher, Way, Wish};
use crate::world::{Person, World};

/// How long the rest may take once everything is kind again.
const SETTLE: Duration = Duration::from_secs(120);
/// Conversations of each user that several runs share; the last lane makes a new one each time.
const THREADS: usize = LANES - 1;
/// Differences that are shown.
const SHOWN: usize = 20;

/// Many users, a server that is killed again and again, and a network that breaks.
#[derive(Debug, Parser)]
#[command(name = "netra-chaos", args_override_self = true)]
struct Plan {
    /// What all that is random is drawn from; another one each time unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// Goes on until a million events were delivered.
    #[arg(long)]
    long: bool,
    /// How long at least things go wrong.
    #[arg(long, default_value_t = 40)]
    seconds: u64,
    /// How many events at least are delivered; 1000000 with --long.
    #[arg(long, default_value_t = 0)]
    events: u64,
    #[arg(long, default_value_t = 50)]
    users: usize,
    /// A `netra` that was built with the feature `failpoints`.
    #[arg(long)]
    server: PathBuf,
    /// Servers over one PostgreSQL, which `NETRA_TEST_POSTGRES` names.
    #[arg(long, default_value_t = 1)]
    nodes: usize,
    /// The data folder of that PostgreSQL, which is stopped now and then, and which somebody starts again.
    #[arg(long)]
    postgres: Option<PathBuf>,
}

#[expect(clippy::print_stdout, reason = "what it found is what it prints")]
fn say(text: &str) {
    println!("{text}");
}

fn main() -> ExitCode {
    let plan = Plan::parse();
    let seed = plan.seed.unwrap_or_else(rand::random);
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(Box::pin(chaos(&plan, seed))));
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("chaos: seed {seed}: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn chaos(plan: &Plan, seed: u64) -> Result<bool> {
    let folder = tempfile::Builder::new().prefix("netra-chaos-").tempdir()?;
    say(&format!(
        "chaos: seed {seed}, {} nodes, {} users, {LANES} runs of each at a time",
        plan.nodes, plan.users
    ));
    let good = Box::pin(chaos_in(plan, seed, folder.path())).await;
    if !matches!(good, Ok(true)) {
        let kept = folder.keep();
        say(&format!(
            "chaos: seed {seed} failed; data and the server's log are kept in {}",
            kept.display()
        ));
    }
    good
}

async fn chaos_in(plan: &Plan, seed: u64, folder: &Path) -> Result<bool> {
    let abroad = load::counting_endpoint().await?;
    load::write_agents(&folder.join("agents"), &abroad)?;
    let model = load::talking_model().await?;
    let mut cluster = Box::pin(Cluster::start(plan, (folder, seed), model.url())).await?;
    let data = cluster.data().to_owned();
    let people = people(plan, &data, cluster.direct(), cluster.proxy.url()).await?;
    let first = people.first().context("chaos needs a user")?;
    let epoch = Box::pin(Socket::connect(&first.client))
        .await?
        .ready()
        .epoch
        .clone();
    let (open, opened) = tokio::sync::watch::channel(true);
    let world = Arc::new(World::new(seed, epoch, people, opened, plan.nodes > 1));

    let looking_on = watchers(&world);
    let lanes: Vec<_> = (0..plan.users * LANES)
        .map(|at| {
            let lane = load::lane(Arc::clone(&world), at / LANES, at % LANES);
            world.runtime.spawn(TaskKind::Part, lane)
        })
        .collect();
    cluster.proxy.turn_bad();
    let began = Instant::now();
    Box::pin(disturb(plan, &world, &mut cluster)).await?;
    let bad_for = began.elapsed();
    open.send_replace(false);
    cluster.proxy.turn_kind();

    let done = timeout(SETTLE, join(lanes)).await;
    let lanes = done.context("runs do not end")??;
    let ids: Vec<UserId> = world.people.iter().map(|person| person.id).collect();
    let logs = Logs::read(&data, &ids).await?;
    for (watching, goal) in &looking_on {
        let right = logs.list(watching.person, watching.way, &watching.wish)?;
        goal.send_replace(Some(right.last_whole()));
    }
    let (watching, goals): (Vec<_>, Vec<_>) = looking_on.into_iter().unzip();
    let tasks = watching.into_iter().map(|watching| watching.task).collect();
    let done = timeout(SETTLE, join(tasks)).await;
    let watchers = done.context("clients do not get what the log has")??;
    drop(goals);
    cluster.stop().await?;
    // Read anew: what was folded away meanwhile is not to be missed.
    let logs = Logs::read(&data, &ids).await?;
    report(&world, &cluster, bad_for);
    conclude(&world, &logs, &abroad.seen(), lanes, watchers)
}

/// Makes the users in this process, and their conversations over the kind network.
async fn people(plan: &Plan, data: &Path, direct: &str, proxied: &str) -> Result<Vec<Person>> {
    let config = config_beside(data)?;
    let accounts = netra::accounts::Accounts::open(&config).map_err(|problem| problem.error)?;
    let mut people = Vec::with_capacity(plan.users);
    for number in 0..plan.users {
        let user = accounts.find_or_create(&format!("user-{number}")).await;
        let user = user.map_err(|problem| problem.error)?;
        let year = Duration::from_secs(365 * 24 * 3_600);
        let token = accounts.token(&user, year);
        let token = token.map_err(|problem| problem.error)?;
        let client = Client::new(direct, Some(token.clone()))?;
        let mut threads = Vec::new();
        for _ in 0..THREADS {
            let new = CreateThread {
                title: None,
                metadata: None,
            };
            threads.push(client.thread_create(&new).await?.id);
        }
        people.push(Person {
            id: user.id,
            client: Client::new(proxied, Some(token))?,
            threads,
            loud: number % 25 == 0,
        });
    }
    Ok(people)
}

/// A client that looks on all the time.
struct Watching {
    person: usize,
    way: Way,
    wish: Wish,
    task: JoinHandle<Option<Watcher>>,
}

type Goal = tokio::sync::watch::Sender<Option<u64>>;

/// Three for each user: a feed and a stream of everything, and a socket of a part.
fn watchers(world: &Arc<World>) -> Vec<(Watching, Goal)> {
    let mut random = StdRng::seed_from_u64(world.seed ^ 0x3a7c);
    let mut all = Vec::new();
    for (person, user) in world.people.iter().enumerate() {
        for (at, way) in [Way::Feed, Way::Socket, Way::Stream]
            .into_iter()
            .enumerate()
        {
            let part = way == Way::Socket;
            let wish = Wish {
                threads: part.then(|| user.threads[..2].to_vec()),
                deltas: !part,
            };
            let habit = match (person + at) % 3 {
                _ if user.loud && !part => Habit::Slow,
                0 => Habit::Quick,
                1 => Habit::Restarts,
                _ => Habit::Slow,
            };
            let (goal, told) = tokio::sync::watch::channel(None);
            let watcher = Watcher {
                world: Arc::clone(world),
                person,
                way,
                habit,
                wish: wish.clone(),
                random: StdRng::seed_from_u64(random.random()),
                goal: told,
                list: List::default(),
                cursor: None,
            };
            let task = world.runtime.spawn(TaskKind::Part, watcher.watch());
            let watching = Watching {
                person,
                way,
                wish,
                task,
            };
            all.push((watching, goal));
        }
    }
    all
}

async fn join<T>(tasks: Vec<JoinHandle<Option<T>>>) -> Result<Vec<T>> {
    let mut all = Vec::with_capacity(tasks.len());
    for task in tasks {
        all.push(task.await?.context("a task panicked")?);
    }
    Ok(all)
}

fn report(world: &World, cluster: &Cluster, bad_for: Duration) {
    let (done, counts, damage) = (cluster.done(), &world.counts, cluster.proxy.damage());
    let of = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    say(&format!(
        "  {:.0} s of it; servers: {} kills, {} deaths between commit and fan-out, {} drains, {} pauses, \
         {} clock jumps (seconds from the true time: {:?})",
        bad_for.as_secs_f64(),
        done.kills,
        done.deaths_after_commit,
        done.drains,
        done.pauses,
        done.jumps.len(),
        done.jumps,
    ));
    if cluster.nodes.len() > 1 {
        say(&cluster.of_several());
    }
    say(&format!(
        "  network: {} connections, {} cut, {} half-open, {} delayed, {} throttled",
        of(&damage.connections),
        of(&damage.cuts),
        of(&damage.half_open),
        of(&damage.delayed),
        of(&damage.throttled),
    ));
    say(&format!(
        "  clients: {} restarts from the cursor, at least {} mailboxes lost by slow ones, \
         {} starts sent again without an answer, {} with one",
        counts.restarts.get(),
        done.overflows,
        counts.sent_again.get(),
        counts.doubled.get(),
    ));
}

/// Holds everything against the logs, and says what came of it.
fn conclude(
    world: &World,
    logs: &Logs,
    abroad: &[Request],
    lanes: Vec<Lane>,
    watchers: Vec<Watcher>,
) -> Result<bool> {
    let mut accepted: Vec<Accepted> = Vec::new();
    let mut all = watchers;
    for lane in lanes {
        accepted.extend(lane.accepted);
        all.extend(lane.watchers);
    }
    let mut wrong = world.faults();
    let mut different = 0;
    for watcher in &all {
        if let Some(difference) = logs.judge(watcher)? {
            different += 1;
            wrong.push(difference);
        }
    }
    wrong.extend(logs.judge_runs(&accepted)?);
    wrong.extend(logs.judge_slots()?);
    wrong.extend(judge_effects(abroad, &accepted));
    let completed = |one: &&Accepted| one.run.status == RunStatus::Completed;
    let delivered: u64 = all.iter().map(|watcher| watcher.list.taken()).sum();
    say(&format!(
        "  runs: {} accepted, {} completed; {} events in the logs",
        accepted.len(),
        accepted.iter().filter(completed).count(),
        logs.events(),
    ));
    for one in wrong.iter().take(SHOWN) {
        say(&format!("  WRONG {one}"));
    }
    say(&format!(
        "  {delivered} events delivered to {} clients; {different} have something else than the \
         log, {} defects",
        all.len(),
        wrong.len()
    ));
    ensure!(delivered > 0 && !accepted.is_empty(), "nothing happened");
    // The gate adds these lines up: a client's list and a run are a test each.
    let tests = all.len() + accepted.len();
    let failed = wrong.len().min(tests);
    let verdict = if wrong.is_empty() { "ok" } else { "FAILED" };
    let passed = tests - failed;
    say(&format!(
        "test result: {verdict}. {passed} passed; {failed} failed"
    ));
    Ok(wrong.is_empty())
}
