//! Runs: started again and again until the server has answered, and looked after to their end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use netra_client::{Client, Error, Socket};
use netra_context::runtime::TaskKind;
use netra_integration::{FakeEndpoint, FakeModel, Reply, Said, start};
use netra_protocol::ErrorCode;
use netra_protocol::frame::RunStart;
use netra_protocol::id::{RunId, ThreadId};
use netra_protocol::run::Run;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::list::List;
use crate::watch::{Habit, PAUSE, Watcher, Way, Wish, passing};
use crate::world::World;

/// Runs that each user has at a time.
pub(crate) const LANES: usize = 5;
/// Runs that a loud user starts at once, each with several events as long as its text.
const FLOOD: usize = 40;
/// How long a request may take.
const ATTEMPT: Duration = Duration::from_secs(8);
/// How long the server may hold an answer until a run has ended.
const HOLD: Duration = Duration::from_secs(4);
/// The longest text that is sent over a WebSocket, in bytes; a frame has at most 64 KiB.
const FRAME_BYTES: usize = 40_000;

/// A run that the server has accepted, and how it ended as its owner was told.
pub(crate) struct Accepted {
    pub(crate) person: usize,
    pub(crate) text: String,
    pub(crate) run: Run,
}

/// What one lane has done.
#[derive(Default)]
pub(crate) struct Lane {
    pub(crate) accepted: Vec<Accepted>,
    /// Clients that looked on at one run each.
    pub(crate) watchers: Vec<Watcher>,
}

/// The agent whose turns something outside counts.
pub(crate) const ABROAD: &str = "chaos-abroad";

/// Writes the agents that runs are started of, besides `echo`.
pub(crate) fn write_agents(folder: &Path, abroad: &FakeEndpoint) -> Result<()> {
    let write = |name: &str, manifest: &str, file: &str, text: &str| {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("agent.toml"), manifest)?;
        std::fs::write(folder.join(file), text)
    };
    write(
        "chaos-steps",
        "description = \"Thinks and calls a tool, again and again.\"\nkind = \"script\"\n\
         script = \"agent.py\"\ntools = [\"time_now\"]\n",
        "agent.py",
        "for number in range(30):\n    think(f\"step {number}\", progress=number / 30)\n    \
         time_now()\n{\"report_markdown\": input[\"text\"], \"text\": input[\"text\"]}\n",
    )?;
    write(
        "chaos-talk",
        "description = \"Says again what it was told, in many pieces.\"\nkind = \"model\"\n\
         instructions = \"instructions.md\"\n",
        "instructions.md",
        "Say it again.\n",
    )?;
    let at = format!(
        "description = \"Somebody else's.\"\nkind = \"http\"\nurl = \"{}\"\n",
        abroad.url()
    );
    write(ABROAD, &at, "notes.md", "Says it again, far away.\n")?;
    Ok(())
}

/// An agent somewhere else that says again what it was given, and remembers who asked for what under which key.
pub(crate) async fn counting_endpoint() -> Result<FakeEndpoint> {
    FakeEndpoint::start_later(|turn| {
        let text = turn["input"]["text"].clone();
        async move {
            tokio::time::sleep(Duration::from_millis(150)).await;
            Said::Step(json!({"type": "result", "result": {"text": text}}))
        }
    })
    .await
}

/// A model that says again what it was told last, in pieces that come apart.
pub(crate) async fn talking_model() -> Result<FakeModel> {
    FakeModel::start(|body| {
        let messages = body["messages"].as_array();
        let last = messages.and_then(|messages| messages.last());
        let content = last.map_or(&Value::Null, |message| &message["content"]);
        let text = match content {
            Value::String(text) => text.clone(),
            parts => parts[0]["text"].as_str().unwrap_or_default().to_owned(),
        };
        let size = (text.len() / 20).max(1);
        let pieces = text.as_bytes().chunks(size);
        let pieces = pieces.map(|piece| String::from_utf8_lossy(piece).into_owned());
        Reply::Slowly(pieces.collect(), Duration::from_millis(45))
    })
    .await
}

/// Starts one run after the other until no more are wanted. The first lane of a loud user starts
/// many at once: together they are more than a mailbox takes.
pub(crate) async fn lane(world: Arc<World>, person: usize, number: usize) -> Lane {
    let mut lane = Lane::default();
    let at_once = match world.people[person].loud && number == 0 {
        true => FLOOD,
        false => 1,
    };
    while *world.open.borrow() {
        let turn = lane.accepted.len();
        let runs = (turn..turn + at_once).map(|turn| one_run(&world, person, number, turn));
        for run in futures::future::join_all(runs).await {
            match run {
                Ok((accepted, watcher)) => {
                    lane.accepted.push(accepted);
                    lane.watchers.extend(watcher);
                }
                Err(error) => {
                    world.fault(format!("user {person}, lane {number}: {error:#}"));
                    return lane;
                }
            }
        }
    }
    lane
}

/// One request for a run.
struct Asked {
    key: String,
    thread: Option<ThreadId>,
    agent: &'static str,
    text: String,
    over_socket: bool,
}

impl Asked {
    fn drawn(
        world: &World,
        person: usize,
        (lane, turn): (usize, usize),
        random: &mut StdRng,
    ) -> Self {
        let user = &world.people[person];
        let loud = user.loud && (lane == 0 || random.random_ratio(1, 2));
        // Model agents read their conversation, so they get a new one each time.
        let thread = user.threads.get(lane).copied();
        let agent = match random.random_range(0..10) {
            _ if loud => "echo",
            0 => "chaos-steps",
            1..7 if thread.is_none() => "chaos-talk",
            7..10 if thread.is_none() => ABROAD,
            _ => "echo",
        };
        let bytes = match random.random_range(0..10) {
            _ if loud => random.random_range(60_000..90_000),
            0..6 => random.random_range(1..80),
            _ => random.random_range(1_000..20_000),
        };
        let head = format!("user {person} lane {lane} turn {turn} ");
        let text = head + &random_text(random, bytes);
        Self {
            key: format!("chaos-{}-{person}-{lane}-{turn}", world.seed),
            over_socket: text.len() < FRAME_BYTES && random.random_ratio(1, 5),
            thread,
            agent,
            text,
        }
    }

    async fn send(&self, client: &Client) -> Result<RunId, Error> {
        let start = start(self.agent, self.text.as_str());
        if !self.over_socket {
            let run = client
                .run_start(self.thread, &start, Some(&self.key))
                .await?;
            return Ok(run.id);
        }
        let mut socket = Box::pin(Socket::connect(client)).await?;
        let start = RunStart {
            thread_id: self.thread,
            idempotency_key: Some(self.key.clone()),
            start,
        };
        Ok(socket.run_start(start).await?.run_id)
    }
}

/// Words without a need for escapes, so that a text's length is its JSON's.
fn random_text(random: &mut StdRng, bytes: usize) -> String {
    let mut letter = || char::from(random.random_range(b'a'..=b'z'));
    let letters = (0..bytes).map(|at| if at % 7 == 6 { ' ' } else { letter() });
    letters.collect()
}

async fn one_run(
    world: &Arc<World>,
    person: usize,
    lane: usize,
    turn: usize,
) -> Result<(Accepted, Option<Watcher>)> {
    let place = ((person as u64) << 40) | ((lane as u64) << 32) | turn as u64;
    let mut random = StdRng::seed_from_u64(world.seed ^ place);
    let client = &world.people[person].client;
    let asked = Asked::drawn(world, person, (lane, turn), &mut random);
    let id = accepted(world, client, &asked).await?;
    if random.random_ratio(1, 10) {
        world.counts.doubled.add(1);
        let again = accepted(world, client, &asked).await?;
        ensure!(again == id, "the same request made {id} and {again}");
    }
    let watching = random.random_ratio(1, 4).then(|| {
        let watcher = run_watcher(world, person, id, &mut random);
        world.runtime.spawn(TaskKind::Part, watcher.watch())
    });
    let run = ended(client, id).await?;
    let watcher = match watching {
        Some(watching) => Some(watching.await?.context("a client panicked")?),
        None => None,
    };
    let text = asked.text;
    Ok((Accepted { person, text, run }, watcher))
}

fn run_watcher(world: &Arc<World>, person: usize, id: RunId, random: &mut StdRng) -> Watcher {
    let habits = [Habit::Quick, Habit::Restarts, Habit::Slow];
    Watcher {
        world: Arc::clone(world),
        person,
        way: Way::Run(id),
        habit: habits[random.random_range(0..habits.len())],
        wish: Wish {
            threads: None,
            deltas: true,
        },
        random: StdRng::seed_from_u64(random.random()),
        goal: watch::channel(None).1,
        list: List::default(),
        cursor: None,
    }
}

/// Sends the request until it is answered.
async fn accepted(world: &World, client: &Client, asked: &Asked) -> Result<RunId> {
    loop {
        if let Ok(answer) = timeout(ATTEMPT, Box::pin(asked.send(client))).await {
            match answer {
                Ok(id) => return Ok(id),
                Err(error) => passing(error).or_else(|error| world.outage(error))?,
            }
        }
        world.counts.sent_again.add(1);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Asks for the run until it has ended. That an accepted run is not there is a defect.
async fn ended(client: &Client, id: RunId) -> Result<Run> {
    loop {
        match timeout(ATTEMPT, client.run_wait(id, HOLD)).await {
            Ok(Ok(run)) if run.status.is_terminal() => return Ok(run),
            Ok(Ok(_)) => continue,
            Ok(Err(error)) if error.code() == Some(ErrorCode::NotFound) => {
                return Err(error).context(format!("{id} was accepted and is gone"));
            }
            Ok(Err(error)) => passing(error)?,
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}
