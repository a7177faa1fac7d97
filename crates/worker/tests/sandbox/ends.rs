//! However a program ends, nothing of it is left.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use netra_worker::sandbox::{Policy, Reason, Without};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _};

use crate::place::{Place, TIERS, shell, to_its_end};

/// Leaves a daemon behind: a grandchild in a session of its own that ignores what it can, and keeps the output open for
/// as long as it lives. Goes on when the daemon is there.
const DAEMON: &str = "mkfifo up; \
    setsid sh -c 'trap \"\" TERM HUP INT; (echo daemon; echo > up; exec sleep 1000) &' & \
    read line < up";

#[tokio::test]
async fn a_daemon_ends_with_the_program_that_left_it() {
    for without in TIERS {
        let place = Place::new();
        let running = place.sandbox(without).start(shell(DAEMON)).await.unwrap();
        // The output ends only when nobody has it open any more.
        let outcome = to_its_end(running).await;
        assert_eq!(outcome.told, "daemon");
        assert_eq!(outcome.ended.reason, Reason::Exited(0));
        assert_eq!(place.left(), 0);
    }
}

#[tokio::test]
async fn a_program_that_ignores_signals_ends_when_it_is_stopped_or_dropped() {
    for (without, dropped) in TIERS.into_iter().zip([false, true]) {
        let place = Place::new();
        let script = format!("trap '' TERM HUP INT; {DAEMON}; while :; do sleep 1000; done");
        let mut running = place.sandbox(without).start(shell(&script)).await.unwrap();
        let mut stdout = tokio::io::BufReader::new(running.take_stdout().unwrap());
        stdout.read_line(&mut String::new()).await.unwrap();
        if dropped {
            drop(running);
        } else {
            assert_eq!(running.stop().await.reason, Reason::Stopped);
            assert_eq!(place.left(), 0);
        }
        assert_eq!(stdout.read(&mut [0]).await.unwrap(), 0, "nobody is left");
    }
}

#[tokio::test]
async fn time_is_limited() {
    let place = Place::new();
    let mut policy = shell("exec sleep 1000");
    policy.limits.time = Some(Duration::from_millis(100));
    let outcome = place.try_it(Without::NOTHING, policy).await;
    assert_eq!(outcome.ended.reason, Reason::Time);
    let mut policy = shell("while :; do :; done");
    policy.limits.processor = Duration::from_secs(1);
    let outcome = place.try_it(Without::NOTHING, policy).await;
    assert_eq!(outcome.ended.reason, Reason::Time, "{outcome:?}");
}

#[tokio::test]
async fn what_it_says_is_kept_up_to_a_limit() {
    let place = Place::new();
    let policy = shell(
        "i=0; while [ $i -lt 5000 ]; do echo \"line number $i\" >&2; i=$((i+1)); done; sleep 0; echo end >&2",
    );
    let outcome = place.try_it(Without::NOTHING, policy).await;
    assert!(outcome.said.len() <= 16 * 1024);
    assert!(outcome.said.ends_with("end\n"), "{}", outcome.said);
}

#[tokio::test]
async fn a_program_does_not_outlive_its_supervisor() {
    for without in TIERS {
        let place = Place::new();
        let mut running = place
            .sandbox(without)
            .start(shell("echo ready; exec sleep 1000"))
            .await
            .unwrap();
        let mut stdout = tokio::io::BufReader::new(running.take_stdout().unwrap());
        stdout.read_line(&mut String::new()).await.unwrap();
        let supervisor = running.meter().process_id().unwrap();
        let supervisor = Pid::from_raw(supervisor.cast_signed()).unwrap();
        kill_process(supervisor, Signal::KILL).unwrap();
        assert_eq!(stdout.read(&mut [0]).await.unwrap(), 0, "nobody is left");
        assert_eq!(running.ended().await.reason, Reason::Stopped);
        assert_eq!(place.left(), 0);
    }
}

/// The processes below one, with handles by which their end is seen.
fn below(process: u32) -> Vec<std::os::fd::OwnedFd> {
    let children = format!("/proc/{process}/task/{process}/children");
    let Ok(children) = std::fs::read_to_string(children) else {
        return Vec::new();
    };
    let children = children
        .split_ascii_whitespace()
        .map(|id| id.parse::<u32>().unwrap());
    children
        .flat_map(|child| {
            let id = Pid::from_raw(child.cast_signed()).unwrap();
            let own = pidfd_open(id, PidfdFlags::empty());
            own.into_iter().chain(below(child)).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn nothing_outlives_a_server_that_is_killed() {
    for without in TIERS {
        let place = Place::new();
        let policy = Policy {
            arguments: vec!["-c".to_owned(), format!("{DAEMON}; sleep 1000")],
            ..shell("")
        };
        let mut server = Command::new(env!("CARGO_BIN_EXE_netra-worker-probe"))
            .arg("server")
            .arg(place.temp())
            .arg(serde_json::to_string(&without).unwrap())
            .arg(serde_json::to_string(&policy).unwrap())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "daemon\n");
        // The shell goes on to its sleep when the daemon has spoken.
        let began = Instant::now();
        let processes = loop {
            let found = below(server.id());
            if found.len() >= 4 {
                break found;
            }
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "supervisor, shell, sleep, daemon: {}",
                found.len()
            );
        };
        assert_eq!(place.left(), 1);
        server.kill().unwrap();
        for process in &processes {
            // Other tests' children end meanwhile, and this process hears of that by a signal.
            let mut ended = [PollFd::new(process, PollFlags::IN)];
            rustix::io::retry_on_intr(|| poll(&mut ended, None)).unwrap();
        }
        server.wait().unwrap();
        assert_eq!(place.left(), 0);
    }
}
