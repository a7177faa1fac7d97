//! Runs: started again and again until the server has answered, and looked after to their end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use netra_client::{Client, Error, Socket};
use netra_context::runtime::TaskKind;
use netra_integration::{FakeModel, Reply, start};
use netra_protocol::ErrorCode;
use netra_protocol::frame::RunStart;
use netra_protocol::id::{RunId, ThreadId};
use netra_protocol::run::Run;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::list::List;
use crate::watch::{Habit, PAUSE, Watcher, Way, Wish, passing};
use crate::world::World;

/// Runs that each user has at a time.
pub(crate) const LANES: usize = 5;
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
    pub(crate) watchers: Vec<(RunId, Watcher)>,
}

/// Writes the agents that runs are started of, besides `echo`.
pub(crate) fn write_agents(folder: &Path) -> Result<()> {
    let write = |name: &str, manifest: &str, file: &str, text: &str| {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("agent.toml"), manifest)?;
        std::fs::write(folder.join(file), text)
    };
    let scripted = "description = \"Thinks and calls a tool, again and again.\"\n\
         kind = \"script\"\nscript = \"agent.py\"\ntools = [\"time_now\"]\n";
    // Two of them are more than a mailbox takes, for clients that sleep through it.
    write(
        "chaos-flood",
        scripted,
        "agent.py",
        "for number in range(150):\n    think(\"x\" * 16000)\n{\"text\": input[\"text\"]}\n",
    )?;
    write(
        "chaos-steps",
        scripted,
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
    Ok(())
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

/// Starts one run after the other until no more are wanted.
pub(crate) async fn lane(world: Arc<World>, person: usize, number: usize) -> Lane {
    let mut lane = Lane::default();
    let seed = world.seed ^ ((person as u64) << 16) ^ ((number as u64) << 8) ^ 0x1a2e;
    let mut random = StdRng::seed_from_u64(seed);
    while *world.open.borrow() {
        let turn = lane.accepted.len();
        if let Err(error) = Box::pin(one_run(&world, person, number, &mut random, &mut lane)).await
        {
            world.fault(format!(
                "user {person}, lane {number}, run {turn}: {error:#}"
            ));
            break;
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
        let loud = user.loud && random.random_ratio(1, 2);
        // Model agents read their conversation, so they get a new one each time.
        let thread = user.threads.get(lane).copied();
        let agent = match random.random_range(0..10) {
            0..3 if user.loud && lane < 4 => "chaos-flood",
            _ if loud => "echo",
            0..3 => "chaos-steps",
            3..9 if thread.is_none() => "chaos-talk",
            _ => "echo",
        };
        let bytes = match random.random_range(0..10) {
            _ if loud => random.random_range(40_000..90_000),
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
    number: usize,
    random: &mut StdRng,
    lane: &mut Lane,
) -> Result<()> {
    let client = &world.people[person].client;
    let asked = Asked::drawn(world, person, (number, lane.accepted.len()), random);
    let id = accepted(world, client, &asked).await?;
    if random.random_ratio(1, 10) {
        world.counts.doubled.add(1);
        let again = accepted(world, client, &asked).await?;
        ensure!(again == id, "the same request made {id} and {again}");
    }
    let watching = random.random_ratio(1, 4).then(|| {
        let watcher = run_watcher(world, person, id, random);
        world.runtime.spawn(TaskKind::Part, watcher.watch())
    });
    let run = ended(client, id).await?;
    if let Some(watching) = watching {
        let watcher = watching.await?.context("a client panicked")?;
        lane.watchers.push((id, watcher));
    }
    lane.accepted.push(Accepted {
        person,
        text: asked.text,
        run,
    });
    Ok(())
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
                Err(error) => passing(error)?,
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
