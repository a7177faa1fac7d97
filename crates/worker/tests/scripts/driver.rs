//! Pools, scripts and their steps, in the words of the tests.

use std::time::{Duration, Instant};

use netra_worker::{Config, Error, Limits, Script, ScriptPool, Source, Step};
use serde_json::{Map, Value};

use crate::someone::someone;

pub(crate) fn pool(workers: usize) -> ScriptPool {
    let program = env!("CARGO_BIN_EXE_netra-worker-probe");
    ScriptPool::new(Config {
        program: program.into(),
        workers,
        warm: 1,
    })
}

pub(crate) fn source(code: &str, functions: &[&str]) -> Source {
    Source {
        name: "test.py".to_owned(),
        code: code.to_owned(),
        inputs: Map::new(),
        functions: functions.iter().map(|name| (*name).to_owned()).collect(),
        keeps: None,
    }
}

pub(crate) fn limits() -> Limits {
    Limits {
        run_time: Duration::from_secs(10),
        memory_bytes: 64 << 20,
        ..Limits::default()
    }
}

pub(crate) async fn start(pool: &ScriptPool, code: &str, functions: &[&str]) -> Script {
    pool.start(&someone(1), source(code, functions), limits())
        .await
        .unwrap()
}

/// Runs a script that calls nothing to its end, and says what it printed.
pub(crate) async fn run(
    pool: &ScriptPool,
    code: &str,
    limits: Limits,
) -> (String, Result<Value, Error>) {
    let mut script = pool
        .start(&someone(1), source(code, &[]), limits)
        .await
        .unwrap();
    let mut printed = String::new();
    loop {
        match script.next().await {
            Ok(Step::Printed(text)) => printed.push_str(&text),
            Ok(Step::Finished(value)) => return (printed, Ok(value)),
            Ok(other) => panic!("not expected: {other:?}"),
            Err(error) => return (printed, Err(error)),
        }
    }
}

pub(crate) async fn call(script: &mut Script) -> (u32, String, Vec<Value>, Map<String, Value>) {
    match script.next().await.unwrap() {
        Step::Call {
            id,
            name,
            args,
            kwargs,
        } => (id, name, args, kwargs),
        other => panic!("no call, but {other:?}"),
    }
}

pub(crate) async fn finish(script: &mut Script) -> Value {
    match script.next().await.unwrap() {
        Step::Finished(value) => value,
        other => panic!("no end, but {other:?}"),
    }
}

/// A pool whose workers are a shell script instead.
pub(crate) fn impostor(script: &str) -> (tempfile::TempDir, ScriptPool) {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("impostor");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, executable).unwrap();
    (
        directory,
        ScriptPool::new(Config {
            program,
            workers: 1,
            warm: 0,
        }),
    )
}

/// Waits until a process has ended: its entry is away, or it is a zombie that nobody has collected yet.
pub(crate) async fn assert_gone(id: u32) {
    let until = Instant::now() + Duration::from_secs(5);
    let lives = || {
        std::fs::read_to_string(format!("/proc/{id}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z ") && !stat.contains(") X "))
    };
    while lives() {
        assert!(Instant::now() < until, "process {id} still lives");
        tokio::task::yield_now().await;
    }
}
