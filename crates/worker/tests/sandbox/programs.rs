//! The three pipes of a program, its environment and its end.

use std::collections::BTreeMap;

use netra_context::runtime::Runtime;
use netra_worker::sandbox::{
    Limits, Network, Policy, Reason, SYSTEM_FILES, Sandbox, Settings, Tier,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub(crate) fn sandbox() -> Sandbox {
    let settings = Settings {
        program: env!("CARGO_BIN_EXE_netra-worker-probe").into(),
        temp: std::env::temp_dir(),
        cgroup: None,
        require: Tier::None,
    };
    Sandbox::new(settings, Runtime::new())
}

pub(crate) fn shell(script: &str) -> Policy {
    Policy {
        program: "/bin/sh".into(),
        arguments: vec!["-c".to_owned(), script.to_owned()],
        environment: BTreeMap::new(),
        read: SYSTEM_FILES.iter().map(Into::into).collect(),
        write: Vec::new(),
        network: Network::None,
        unix_sockets: false,
        limits: Limits::default(),
    }
}

#[tokio::test]
async fn a_program_speaks_through_its_pipes_and_ends_with_its_code() {
    let policy = shell("cat; echo \"$WHO\"; echo careful >&2; exit 7");
    let environment = [("WHO".to_owned(), "me".to_owned())].into();
    let policy = Policy {
        environment,
        ..policy
    };
    let mut running = sandbox().start(policy).await.unwrap();
    let (mut stdin, mut stdout) = (
        running.take_stdin().unwrap(),
        running.take_stdout().unwrap(),
    );
    stdin.write_all(b"to you ").await.unwrap();
    drop(stdin);
    let mut told = String::new();
    stdout.read_to_string(&mut told).await.unwrap();
    assert_eq!(told, "to you me\n");
    assert_eq!(running.ended().await.reason, Reason::Exited(7));
    assert_eq!(running.said(), "careful\n");
    assert_eq!(running.meter().bytes(), 0);
}

#[tokio::test]
async fn a_program_that_nobody_wants_any_more_is_gone_with_what_it_started() {
    let policy = shell("sleep 1000 & echo ready; exec sleep 1000");
    let mut running = sandbox().start(policy).await.unwrap();
    let mut stdout = running.take_stdout().unwrap();
    stdout.read_exact(&mut [0; 6]).await.unwrap();
    assert!(running.meter().bytes() > 0);
    drop(running);
    // The pipe ends when nobody holds its other end.
    assert_eq!(stdout.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn what_cannot_be_run_is_an_error_that_names_it() {
    let mut policy = shell("");
    policy.program = "/nonexistent/tool".into();
    let error = sandbox().start(policy).await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/tool"), "{error}");
}
