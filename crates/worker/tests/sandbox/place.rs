//! Where the tests run programs: a folder that every user can reach, with the program that tries to get out.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use netra_context::runtime::Runtime;
use netra_worker::sandbox::{
    Ended, Layers, Limits, Network, Policy, Running, SYSTEM_FILES, Sandbox, Settings, Tier, Without,
};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;

const PROBE: &str = env!("CARGO_BIN_EXE_netra-worker-probe");

/// Such a folder. What programs leave behind, they leave here.
pub(crate) struct Place {
    folder: TempDir,
}

/// What came of an attempt to escape.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What the program has told: `ok`, or the number of an error; nothing when it was ended before.
    pub(crate) told: String,
    pub(crate) ended: Ended,
    pub(crate) said: String,
}

/// All layers that the machine has; and all but namespaces, which is what many machines have.
pub(crate) const TIERS: [Without; 2] = [
    Without::NOTHING,
    Without {
        namespaces: true,
        ..Without::NOTHING
    },
];

impl Place {
    pub(crate) fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let place = Place { folder };
        fs::create_dir(place.temp()).unwrap();
        fs::set_permissions(place.temp(), Permissions::from_mode(0o755)).unwrap();
        let probe = place.path().join("probe");
        fs::hard_link(PROBE, &probe)
            .or_else(|_| fs::copy(PROBE, &probe).map(drop))
            .unwrap();
        place
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where programs get their folders.
    pub(crate) fn temp(&self) -> PathBuf {
        self.path().join("temp")
    }

    /// Everything that is left in there.
    pub(crate) fn left(&self) -> usize {
        fs::read_dir(self.temp()).unwrap().count()
    }

    pub(crate) fn sandbox(&self, without: Without) -> Sandbox {
        let settings = Settings {
            program: PROBE.into(),
            temp: self.temp(),
            cgroup: None,
            require: Tier::None,
            without,
        };
        Sandbox::new(settings, Runtime::new())
    }

    /// What holds programs on this machine.
    pub(crate) async fn layers(&self) -> Layers {
        self.sandbox(Without::NOTHING).check().await.unwrap()
    }

    /// An attempt of the probe.
    pub(crate) fn attempt(&self, what: &str, argument: &str) -> Policy {
        Policy {
            program: self.path().join("probe"),
            arguments: ["escape", what, argument].map(String::from).to_vec(),
            ..shell("")
        }
    }

    /// Runs it to its end, and looks whether anything is left.
    pub(crate) async fn try_it(&self, without: Without, policy: Policy) -> Outcome {
        let running = self.sandbox(without).start(policy).await.unwrap();
        let outcome = to_its_end(running).await;
        assert_eq!(self.left(), 0, "{outcome:?} has left files");
        outcome
    }
}

/// Waits for the end, and for everybody's who holds the program's output.
pub(crate) async fn to_its_end(mut running: Running) -> Outcome {
    let mut told = String::new();
    let mut stdout = running.take_stdout().unwrap();
    stdout.read_to_string(&mut told).await.unwrap();
    Outcome {
        told: told.trim_end().to_owned(),
        ended: running.ended().await,
        said: running.said(),
    }
}

/// A script in Python, for what only an unsafe call could try in Rust.
pub(crate) fn python(script: &str, arguments: &[String]) -> Policy {
    let options = ["-I", "-c", script].map(str::to_owned);
    Policy {
        program: "/usr/bin/python3".into(),
        arguments: [&options[..], arguments].concat(),
        ..shell("")
    }
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
