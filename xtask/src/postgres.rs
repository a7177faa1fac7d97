//! Netra on PostgreSQL: a server of our own for as long as it is needed, on a free port and with a folder of its own.
//! Nothing of a server that the machine may run is touched.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::part::{self, Outcome};
use crate::tally::Tally;
use crate::workspace::Workspace;
use crate::{chaos, debian, process};

/// Versions that the store works on, as Debian places them.
const PROGRAMS: [&str; 4] = [
    "/usr/lib/postgresql/18/bin/postgres",
    "/usr/lib/postgresql/17/bin/postgres",
    "/usr/lib/postgresql/16/bin/postgres",
    "/usr/lib/postgresql/15/bin/postgres",
];
/// The user that Debian's package makes. The server refuses to run as root.
const USER: &str = "postgres";
/// What is written need not outlive the tests, so that nothing waits for the disk.
const FORGETFUL: [&str; 2] = ["fsync=off", "full_page_writes=off"];
/// What names the server to the tests.
const VARIABLE: &str = "NETRA_TEST_POSTGRES";

/// Has the store's tests take the user out of every condition, so that row-level security alone holds.
const STRIPPED: &str = "NETRA_TEST_STRIPPED";

/// The modules whose tests need it, and those that look at the files of the other database.
pub(crate) const TESTS: &str = "on_postgres::";
const TESTS_OF_SQLITE: &str = "on_sqlite::";
/// Tests of how much memory and processor the server's process takes from others: they measure nothing of a database, and
/// beside one that shares the machine's processors they would measure that.
const TESTS_OF_PROCESS: [&str; 4] = [
    "memory::",
    "growth::",
    "heap_growth_per_request",
    "security::neighbour::",
];
/// What chaos there takes in place of its own time: what it does is the same as beside the other database.
const CHAOS: [&str; 2] = ["--seconds", "20"];

/// What chaos over several servers takes: fewer users, as the servers share the machine.
const CLUSTER: [&str; 6] = ["--nodes", "3", "--users", "12", "--seconds", "60"];
/// How long that lasts with `--long` alone, in seconds.
const CLUSTER_LONG: &str = "600";
/// Between two looks at a server that may have been stopped.
const LOOK: Duration = Duration::from_millis(50);

/// What of the end-to-end tests runs on it.
#[derive(Clone, Copy, PartialEq)]
enum EndToEnd {
    /// Those that need it.
    Own,
    /// All that do not look at the other database's files, integration and security.
    All,
}

/// Runs the store's tests, all end-to-end tests and chaos on it.
pub(crate) fn check(workspace: &Workspace) -> Result<Outcome> {
    check_with(workspace, EndToEnd::All)
}

/// The store's tests, and those end-to-end tests alone that need it. The others, and chaos, have not yet passed there ten
/// times in a row, and take five minutes.
pub(crate) fn check_among_all(workspace: &Workspace) -> Result<Outcome> {
    check_with(workspace, EndToEnd::Own)
}

/// Chaos over several servers and a PostgreSQL that is stopped now and then; `--long` lasts ten minutes, and everything
/// else is an argument of netra-chaos.
pub(crate) fn check_cluster(workspace: &Workspace, args: &[String]) -> Result<Outcome> {
    let (long, args): (Vec<_>, Vec<_>) = args.iter().cloned().partition(|arg| arg == "--long");
    let mut all: Vec<String> = CLUSTER.map(String::from).to_vec();
    if !long.is_empty() {
        all.extend(["--seconds", CLUSTER_LONG].map(String::from));
    }
    all.extend(args);
    let mut chaos = chaos::built(workspace, &all)?;
    let server = Server::start(workspace, &FORGETFUL)?.kept_up();
    chaos.arg("--postgres").arg(&server.folder);
    part::tests(server.shown_to(&mut chaos))
}

fn check_with(workspace: &Workspace, end_to_end: EndToEnd) -> Result<Outcome> {
    process::require("cc")?;
    // Tests of nodes that have one besides start it themselves, and end it in the middle.
    debian::program(workspace, &["redis-server"], "redis-server")?;
    let store = ["test", "-p", "netra-store", "--test", "store"];
    let mut stripped = process::cargo(workspace, &store);
    stripped.env(STRIPPED, "1");
    let skipped: Vec<&str> = [TESTS_OF_SQLITE]
        .into_iter()
        .chain(TESTS_OF_PROCESS)
        .flat_map(|tests| ["--skip", tests])
        .collect();
    let mut suites = vec![
        ("store", process::cargo(workspace, &store)),
        ("store without its conditions on the user", stripped),
        match end_to_end {
            EndToEnd::Own => ("servers", part::end_to_end(workspace, &[TESTS])?),
            EndToEnd::All => (
                "integration and security",
                part::without_others(workspace, &skipped)?,
            ),
        },
    ];
    if end_to_end == EndToEnd::All {
        let chaos = chaos::built(workspace, &CHAOS.map(String::from))?;
        suites.push(("chaos", chaos));
    }
    let server = Server::start(workspace, &FORGETFUL)?;
    let mut outcome = Outcome {
        tally: Tally::default(),
        good: true,
    };
    for (name, mut tests) in suites {
        let began = Instant::now();
        let suite = part::tests(server.shown_to(&mut tests))?;
        println!(
            "-- {name} on PostgreSQL: {:.1} s",
            began.elapsed().as_secs_f64()
        );
        outcome.tally.add(suite.tally);
        outcome.good &= suite.good;
    }
    Ok(outcome)
}

/// A server that ends when it is dropped, and its folder with it.
pub(crate) struct Server {
    child: Option<Child>,
    keeper: Option<Keeper>,
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
    owner: Option<(u32, u32)>,
    settings: Vec<String>,
}

/// Starts a server again whenever it has ended, until it is told to stop.
struct Keeper {
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<Option<Child>>,
}

impl Server {
    /// One whose commits are durable, for what is measured.
    pub(crate) fn durable(workspace: &Workspace) -> Result<Self> {
        Self::start(workspace, &[])
    }

    fn start(workspace: &Workspace, settings: &[&str]) -> Result<Self> {
        let program = debian::program(workspace, &PROGRAMS, "postgresql")?;
        let programs = Path::new(&program)
            .parent()
            .context("a program has a folder")?
            .to_owned();
        let owner = owner()?;
        let folder = folder(workspace, owner.is_some())?;
        if let Some((user, group)) = owner {
            std::os::unix::fs::chown(&folder, Some(user), Some(group))?;
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut server = Self {
            child: None,
            keeper: None,
            programs,
            folder,
            port,
            owner,
            settings: settings.iter().map(|&setting| setting.into()).collect(),
        };
        let mut init = server.command("initdb");
        init.args([
            "-A",
            "trust",
            "-U",
            "netra_super",
            "-E",
            "UTF8",
            "--no-locale",
            "--no-sync",
            "-D",
        ]);
        process::output(init.arg(&server.folder))?;
        let mut child = server.postgres().stderr(Stdio::piped()).spawn()?;
        let log = child
            .stderr
            .take()
            .context("the pipe of a child is there once")?;
        server.child = Some(child);
        wait_until_ready(BufReader::new(log))?;
        // Who drops a database may end those who are still connected to it.
        for role in [
            "netra_owner LOGIN CREATEDB IN ROLE pg_signal_backend",
            "netra_app LOGIN",
            "netra_backup LOGIN BYPASSRLS IN ROLE pg_read_all_data",
        ] {
            server.say(&format!("CREATE ROLE {role}"))?;
        }
        Ok(server)
    }

    /// One of its programs, as whom it works.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(&self.folder);
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }

    fn postgres(&self) -> Command {
        let mut postgres = self.command("postgres");
        postgres
            .arg("-D")
            .arg(&self.folder)
            .args(["-p", &self.port.to_string()]);
        let own = [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=1000",
        ];
        for setting in own
            .into_iter()
            .chain(self.settings.iter().map(String::as_str))
        {
            postgres.args(["-c", setting]);
        }
        postgres
    }

    /// Starts it again whenever somebody has stopped it.
    fn kept_up(mut self) -> Self {
        let (mut child, mut again) = (self.child.take(), self.postgres());
        again.stderr(Stdio::null());
        let stopping = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stopping);
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::SeqCst) {
                let has_ended = |child: &mut Child| child.try_wait().is_ok_and(|end| end.is_some());
                if child.as_mut().is_none_or(has_ended) {
                    child = again.spawn().ok();
                }
                std::thread::sleep(LOOK);
            }
            child
        });
        self.keeper = Some(Keeper { stopping, thread });
        self
    }

    fn say(&self, sql: &str) -> Result<()> {
        let url = format!("postgres://netra_super@127.0.0.1:{}/postgres", self.port);
        let mut psql = Command::new(self.programs.join("psql"));
        process::run(psql.args(["-X", "-q", "-d", &url, "-c", sql]))
    }

    /// Lets a program's tests find the server, and the client of its version.
    pub(crate) fn shown_to<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        #[expect(
            clippy::disallowed_methods,
            reason = "one folder is put before those of the PATH"
        )]
        let path = std::env::var("PATH").unwrap_or_default();
        let url = format!("postgres://netra_owner@127.0.0.1:{}", self.port);
        command
            .env(VARIABLE, url)
            .env("PATH", format!("{}:{path}", self.programs.display()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let kept = self.keeper.take().and_then(|keeper| {
            keeper.stopping.store(true, Ordering::SeqCst);
            keeper.thread.join().ok().flatten()
        });
        let Some(mut child) = self.child.take().or(kept) else {
            return;
        };
        // Nothing of it is kept, so it need not end in order; but its processes write until they have ended.
        let pid = child.id().to_string();
        let told = Command::new("kill").args(["-QUIT", &pid]).status();
        let ended = told.and_then(|_| child.wait());
        let removed = ended.and_then(|_| fs::remove_dir_all(&self.folder));
        if let Err(error) = removed {
            eprintln!("{} is left behind: {error}", self.folder.display());
        }
    }
}

/// The log's lines until the server takes connections; the rest is read so that it never waits for a reader.
fn wait_until_ready(mut log: impl BufRead + Send + 'static) -> Result<()> {
    let mut said = String::new();
    loop {
        let before = said.len();
        if log.read_line(&mut said)? == 0 {
            bail!("PostgreSQL has not started:\n{said}");
        }
        if said[before..].contains("ready to accept connections") {
            break;
        }
    }
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    Ok(())
}

/// As whom the server runs; none: as whoever we are.
fn owner() -> Result<Option<(u32, u32)>> {
    let id = |args: &[&str]| -> Result<u32> {
        let text = process::output(Command::new("id").args(args))?;
        text.trim().parse().context("`id` prints a number")
    };
    if id(&["-u"])? != 0 {
        return Ok(None);
    }
    Ok(Some((id(&["-u", USER])?, id(&["-g", USER])?)))
}

/// A new folder below the target folder, or where temporary files are when another user could not get there.
fn folder(workspace: &Workspace, for_another: bool) -> Result<PathBuf> {
    let target = process::target_folder(workspace)?;
    let is_open = |folder: &Path| fs::metadata(folder).is_ok_and(|found| found.mode() & 0o001 != 0);
    let place = if for_another && !target.ancestors().all(is_open) {
        std::env::temp_dir()
    } else {
        target
    };
    let folder = place.join(format!("postgres-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_does_not_start_says_why() {
        let log = "FATAL: could not bind\n";
        let error = wait_until_ready(log.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("could not bind"), "{error}");
        let ready = "LOG: starting\nLOG: database system is ready to accept connections\n";
        wait_until_ready(ready.as_bytes()).unwrap();
    }
}
