//! The three pipes of a program, its environment, and what it is granted.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use netra_worker::sandbox::{Error, Policy, Reason, Settings, Tier, Without};
use tokio::io::AsyncWriteExt as _;

use crate::place::{Place, TIERS, python, shell, to_its_end};

#[tokio::test]
async fn a_program_speaks_through_its_pipes_and_ends_with_its_code() {
    for without in TIERS {
        let place = Place::new();
        let policy = shell("cat; echo \"$WHO\"; echo careful >&2; exit 7");
        let environment = [("WHO".to_owned(), "me".to_owned())].into();
        let policy = Policy {
            environment,
            ..policy
        };
        let mut running = place.sandbox(without).start(policy).await.unwrap();
        let mut stdin = running.take_stdin().unwrap();
        stdin.write_all(b"to you ").await.unwrap();
        // As long as its input is open it does not end.
        let meter = running.meter();
        assert!(meter.bytes() > 0);
        drop(stdin);
        let outcome = to_its_end(running).await;
        assert_eq!(outcome.told, "to you me");
        assert_eq!(outcome.ended.reason, Reason::Exited(7));
        assert_eq!(outcome.said, "careful\n");
        assert_eq!(meter.bytes(), 0);
        assert_eq!(place.left(), 0);
    }
}

#[tokio::test]
async fn a_program_has_the_environment_of_its_policy_a_folder_and_no_other_descriptor() {
    let place = Place::new();
    let secret = tempfile::NamedTempFile::new().unwrap();
    let open = fs::File::open(secret.path()).unwrap();
    // What the standard library opens is closed by itself where a program is started; this is not.
    rustix::io::fcntl_setfd(&open, rustix::io::FdFlags::empty()).unwrap();
    for without in TIERS {
        let policy = shell(
            "env | sort; pwd; echo x > own; cat own; for n in /proc/$$/fd/*; do readlink $n; done",
        );
        let told = place.try_it(without, policy).await.told;
        let lines: Vec<&str> = told.lines().collect();
        let folder = lines[0].strip_prefix("HOME=").unwrap();
        assert!(folder.starts_with(place.temp().to_str().unwrap()), "{told}");
        assert_eq!(
            lines[1..5],
            [
                format!("PWD={folder}").as_str(),
                &format!("TMPDIR={folder}"),
                folder,
                "x"
            ],
            "{told}"
        );
        assert_eq!(lines[5..].len(), 3, "{told}");
        assert!(lines[5..].iter().all(|name| name.starts_with("pipe:")));
    }
}

/// What the kernel says of a process.
const RIGHTS: &str = "import os
said = dict(line.split(':\\t', 1) for line in open('/proc/self/status') if ':\\t' in line)
print(*(said[name].strip() for name in ('NoNewPrivs', 'CapEff', 'CapBnd', 'Seccomp')))
print(os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid(), os.getpriority(os.PRIO_PROCESS, 0) >= 10)
";

#[tokio::test]
async fn a_program_has_a_session_of_its_own_gains_no_rights_and_stands_back_for_the_server() {
    let place = Place::new();
    for without in TIERS {
        let outcome = place.try_it(without, python(RIGHTS, &[])).await;
        let lines: Vec<&str> = outcome.told.lines().collect();
        let [rights, session] = lines[..] else {
            panic!("{outcome:?}")
        };
        let rights: Vec<&str> = rights.split(' ').collect();
        assert_eq!((rights[0], rights[3]), ("1", "2"), "{outcome:?}");
        assert_eq!(rights[1], "0000000000000000", "{outcome:?}");
        assert_eq!(session, "True True True", "{outcome:?}");
    }
}

#[tokio::test]
async fn what_holds_a_program_is_told() {
    let place = Place::new();
    let is_root = rustix::process::geteuid().is_root();
    for without in TIERS {
        let mut running = place.sandbox(without).start(shell("read x")).await.unwrap();
        let layers = running.layers();
        assert!(layers.landlock > 0 && layers.seccomp, "{layers:?}");
        assert_eq!(layers.uid.is_some(), is_root);
        assert!(!layers.cgroup, "none was given");
        if without.namespaces {
            assert_eq!(layers.tier(), Tier::Basic);
        } else if !layers.namespaces {
            eprintln!("not tested: namespaces, which this machine does not give");
        }
        drop(running.take_stdin());
        assert_eq!(running.ended().await.reason, Reason::Exited(1));
    }
}

#[tokio::test]
async fn a_trial_finds_what_holds_and_what_does_not() {
    let place = Place::new();
    for without in TIERS {
        let trial = place.sandbox(without).try_out().await.unwrap();
        assert!(trial.layers.tier() >= Tier::Basic);
        assert!(
            trial.attempts.iter().all(|attempt| attempt.held),
            "{trial:?}"
        );
        assert_eq!(place.left(), 0);
    }
    let nothing = Without {
        namespaces: true,
        landlock: true,
        seccomp: true,
        uid: true,
        ..Without::NOTHING
    };
    let trial = place.sandbox(nothing).try_out().await.unwrap();
    assert_eq!(trial.layers.tier(), Tier::None);
    let held: Vec<&str> = trial
        .attempts
        .iter()
        .filter(|attempt| attempt.held)
        .map(|attempt| attempt.what.as_str())
        .collect();
    // The machine may deny this one to everybody.
    assert!(held.is_empty() || held == ["make namespaces"], "{held:?}");
}

#[tokio::test]
async fn what_is_granted_can_be_read_and_written() {
    let place = Place::new();
    let shared = place.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(shared.join("given"), "yours").unwrap();
    for without in TIERS {
        let script = format!(
            "cd {0} && cat given && echo back > written",
            shared.display()
        );
        let read = Policy {
            read: [shell("").read, vec![shared.clone()]].concat(),
            ..shell(&script)
        };
        let outcome = place.try_it(without, read.clone()).await;
        assert_eq!(outcome.told, "yours", "{}", outcome.said);
        assert!(!shared.join("written").exists());
        let write = Policy {
            write: vec![shared.clone()],
            ..read
        };
        let outcome = place.try_it(without, write).await;
        assert_eq!(outcome.ended.reason, Reason::Exited(0), "{}", outcome.said);
        fs::remove_file(shared.join("written")).unwrap();
    }
}

#[tokio::test]
async fn what_cannot_be_run_is_an_error_that_names_it() {
    let place = Place::new();
    let mut policy = shell("");
    policy.program = "/nonexistent/tool".into();
    let error = place
        .sandbox(Without::NOTHING)
        .start(policy)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("/nonexistent/tool"), "{error}");
    assert_eq!(place.left(), 0);
}

#[tokio::test]
async fn less_than_what_is_required_starts_nothing() {
    let place = Place::new();
    let settings = Settings {
        program: env!("CARGO_BIN_EXE_netra-worker-probe").into(),
        temp: place.temp(),
        cgroup: None,
        require: Tier::Full,
        without: Without::NOTHING,
    };
    let sandbox =
        netra_worker::sandbox::Sandbox::new(settings, netra_context::runtime::Runtime::new());
    let started = sandbox.start(shell("")).await.map(drop);
    let checked = sandbox.check().await.map(drop);
    for refused in [started, checked] {
        let is_full = |tier| tier == Tier::Full;
        assert!(
            matches!(refused, Err(Error::TooWeak { required, .. }) if is_full(required)),
            "without a cgroup: {refused:?}"
        );
    }
    place.sandbox(Without::NOTHING).check().await.unwrap();
    assert_eq!(place.left(), 0);
}
