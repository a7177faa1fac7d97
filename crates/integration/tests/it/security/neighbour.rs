//! One user does everything that costs the server something; how long others then wait for the first
//! event of a run is compared with how long that takes when it is quiet, in turns.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use netra_client::{Client, Socket, Upload};
use netra_integration::{Options, ProcessOptions, TestProcess, TestUser, soon, start};
use netra_protocol::frame::RunStart;
use netra_protocol::run::StartRun;

use super::world::unlimited;
use crate::Test;
use crate::scripts::script;

const ROUNDS: usize = 2;
/// Sockets of users who want one run after the other, and the runs of each in a round: together as
/// many as each may ask for in ten seconds.
const SOCKETS: usize = 16;
const RUNS: usize = 6;
/// What a user can be noisy with.
const WAYS: [&str; 6] = ["scripts", "memory", "events", "queue", "sockets", "uploads"];

fn agents() -> Result<tempfile::TempDir> {
    let dir = tempfile::tempdir()?;
    script(dir.path(), "forever", "", "while True:\n    pass\n")?;
    let hungry = "all = []\nwhile True:\n    all.append('x' * 1000000)\n";
    script(dir.path(), "hungry", "", hungry)?;
    Ok(dir)
}

async fn server(data: &Path, agents: &Path, options: Options) -> Result<TestProcess> {
    let options = options.set("agents.dir", agents.display());
    let options = ProcessOptions {
        environment: options.environment(),
        ..ProcessOptions::default()
    };
    TestProcess::start_with(data, options).await
}

/// From asking for a run to its first event, over one socket.
async fn first_event(socket: &mut Socket) -> Result<Duration> {
    let began = Instant::now();
    let frame = RunStart {
        thread_id: None,
        idempotency_key: None,
        start: start("echo", "hello"),
    };
    let run = socket.run_start(frame).await?.run_id;
    let mut first = None;
    loop {
        let received = soon("an event", socket.next_event()).await?;
        if received.event.event.run_id == run {
            first.get_or_insert_with(|| began.elapsed());
            if received.event.event.kind.is_terminal() {
                return Ok(first.unwrap_or_default());
            }
        }
    }
}

async fn round(sockets: &mut [Socket], into: &mut Vec<Duration>) -> Test {
    for _ in 0..RUNS {
        for socket in sockets.iter_mut() {
            into.push(first_event(socket).await?);
        }
    }
    Ok(())
}

/// Noise from a thread of its own, which stands back behind the server and whoever measures: the
/// noisy user's own processor is not the server's.
struct Noise {
    over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Test>,
}

impl Noise {
    fn start(user: &TestUser, ways: Vec<&'static str>) -> Self {
        let (user, over) = (user.clone(), Arc::new(AtomicBool::new(false)));
        let until = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            rustix::process::nice(19)?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            // A client's connections belong to the runtime that made them.
            let client = Client::new(user.client.base(), user.client.token())?;
            let user = TestUser { client, ..user };
            let noises = ways.iter().map(|way| noise(&user, way, &until));
            runtime.block_on(futures::future::try_join_all(noises))?;
            Ok(())
        });
        Self { over, thread }
    }

    fn stop(self) -> Test {
        self.over.store(true, Ordering::SeqCst);
        self.thread
            .join()
            .map_err(|_| anyhow::anyhow!("the noise panicked"))?
    }
}

/// One way to be noisy, again and again until it is quiet again.
async fn noise(user: &TestUser, way: &str, over: &AtomicBool) -> Test {
    let on = || !over.load(Ordering::SeqCst);
    let brief = |agent: &str, ms| StartRun {
        timeout_ms: Some(ms),
        ..start(agent, "noise")
    };
    let large = "x".repeat(90_000);
    while on() {
        match way {
            "scripts" | "memory" => {
                let agent = if way == "scripts" {
                    "forever"
                } else {
                    "hungry"
                };
                let five = (0..5).map(|_| async {
                    let run = user
                        .client
                        .run_start(None, &brief(agent, 1_000), None)
                        .await?;
                    user.client.run_end(run.id).await
                });
                futures::future::join_all(five).await;
            }
            "events" => {
                let five = (0..5).map(|_| user.run("echo", large.as_str()));
                futures::future::join_all(five).await;
            }
            "queue" => {
                let many = (0..110).map(|_| user.start("echo", "queued"));
                futures::future::join_all(many).await;
            }
            "sockets" => {
                let mut sockets = Vec::new();
                for _ in 0..20 {
                    sockets.push(user.socket().await);
                }
            }
            _ => {
                let content = Upload::Bytes(vec![b'x'; 32 << 20].into());
                if let Ok(file) = user.client.file_upload("large", content).await {
                    user.client.file_delete(file.id).await.ok();
                }
            }
        }
    }
    Ok(())
}

fn percentile(sorted: &[Duration], part: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place in a short list"
    )]
    let place = ((sorted.len() - 1) as f64 * part).round() as usize;
    sorted[place].as_secs_f64() * 1e3
}

/// What was waited for the first event, in milliseconds: the median and the 99th percentile.
struct Waits {
    median: f64,
    p99: f64,
}

impl Waits {
    fn of(mut waits: Vec<Duration>) -> Self {
        waits.sort();
        Self {
            median: percentile(&waits, 0.5),
            p99: percentile(&waits, 0.99),
        }
    }
}

/// Quiet and noisy in turns, so that what else the machine does falls on both.
async fn compared(server: &TestProcess, ways: &[&'static str]) -> Result<(Waits, Waits)> {
    let name = ways.join("-");
    let noisy = server.user(&format!("noisy-{name}")).await?;
    let mut sockets = Vec::new();
    for number in 0..SOCKETS {
        let user = server.user(&format!("{name}-{number}")).await?;
        sockets.push(user.socket().await?);
    }
    let (mut quiet, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        round(&mut sockets, &mut quiet).await?;
        let noise = Noise::start(&noisy, ways.to_vec());
        round(&mut sockets, &mut beside).await?;
        noise.stop()?;
    }
    Ok((Waits::of(quiet), Waits::of(beside)))
}

/// Bounds that hold in a debug build beside other programs. How near a release build comes to twice
/// the quiet time is for a machine that does nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_noisy_neighbour_nobody_waits_long() -> Test {
    let (data, agents) = (tempfile::tempdir()?, agents()?);
    let server = server(data.path(), agents.path(), Options::new()).await?;
    let single = WAYS.map(|way| vec![way]);
    for ways in single.into_iter().chain([WAYS.to_vec()]) {
        let (quiet, beside) = compared(&server, &ways).await?;
        let told = format!(
            "{}: median {:.1} -> {:.1} ms, p99 {:.1} -> {:.1} ms",
            ways.join(", "),
            quiet.median,
            beside.median,
            quiet.p99,
            beside.p99
        );
        println!("{told}");
        ensure!(beside.median < 2.0 * quiet.median + 25.0, "{told}");
        ensure!(beside.p99 < 1_000.0, "{told}");
    }
    Ok(())
}

/// How far the threads of a process's children stand back.
fn niceness_of_children(pid: u32) -> Result<Vec<i32>> {
    let mut all = Vec::new();
    for process in std::fs::read_dir("/proc")? {
        // What ends meanwhile is none of them.
        let Ok(threads) = std::fs::read_dir(process?.path().join("task")) else {
            continue;
        };
        for thread in threads.flatten() {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
            let fields: Vec<&str> = fields.split(' ').collect();
            let is_child = fields
                .get(1)
                .is_some_and(|parent| *parent == pid.to_string());
            if let (true, Some(nice)) = (is_child, fields.get(16)) {
                all.push(nice.parse()?);
            }
        }
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_computes_stands_back_behind_the_server() -> Test {
    let (data, agents) = (tempfile::tempdir()?, agents()?);
    let server = server(data.path(), agents.path(), unlimited()).await?;
    let user = server.user("ada").await?;
    let run = user.start("forever", "x").await?;
    let pid = server.pid().context("it runs")?;
    // A worker stands back before it is given anything to do.
    let stands_back = async {
        while !niceness_of_children(pid)?.contains(&10) {
            user.client.usage().await?;
        }
        Ok::<_, anyhow::Error>(())
    };
    soon("a worker that stands back", stands_back).await?;
    user.client.run_cancel(run.id).await?;
    Ok(())
}
