//! A server that is killed, stopped, paused, cut off, and lied to about the time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use netra_integration::{ProcessOptions, TestProcess};
use rustix::process::Signal;

/// The file in the data folder that asks for death between commit and fan-out.
const DIE_AFTER_COMMIT: &str = "die-after-commit";
/// Where a library may be that lies about the time of day.
const FAKETIME: &str = "faketime/libfaketimeMT.so.1";

/// What was done to servers.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) kills: u32,
    pub(crate) deaths_after_commit: u32,
    pub(crate) drains: u32,
    pub(crate) jumps: Vec<i64>,
    pub(crate) pauses: u32,
    pub(crate) overflows: u64,
}

/// `netra serve` on one folder, from start to start.
pub(crate) struct Victim {
    data: PathBuf,
    clock: PathBuf,
    options: ProcessOptions,
    process: TestProcess,
    pub(crate) done: Done,
}

/// Settings under which nothing but chaos is in the way of the load.
fn settings(model: &str) -> Vec<(String, String)> {
    let plenty = "1000000000";
    [
        ("LIMITS__REQUESTS_PER_MINUTE", plenty),
        ("LIMITS__MESSAGES_PER_10S", "100000"),
        // Half-open sockets count until the server finds that they are dead.
        ("LIMITS__SOCKETS", "10000"),
        // The clock may jump over hours.
        ("LIMITS__RUN_TIMEOUT_MS", plenty),
        ("LIMITS__RUN_TIMEOUT_MAX_MS", plenty),
        // A run may have to begin anew as often as the server dies.
        ("LIMITS__ATTEMPTS", "1000"),
        ("LIMITS__TOOL_CALL_MS", "600000"),
        ("WORKERS__SCRIPTS", "24"),
        ("SERVER__DRAIN_MS", "300"),
        ("METRICS__TOKEN", METRICS_TOKEN),
        ("MODELS__PROVIDERS__FAKE__BASE_URL", model),
        ("MODELS__DEFAULT", "fake/small"),
        ("LOG__LEVEL", "warn"),
    ]
    .map(|(name, value)| (format!("NETRA__{name}"), value.to_owned()))
    .to_vec()
}

const METRICS_TOKEN: &str = "only-for-the-counters-of-this-test";

impl Victim {
    /// Starts the server on this data folder in `folder`, with the agents of `folder/agents`.
    pub(crate) async fn start(
        (folder, data): (&Path, &Path),
        program: Option<PathBuf>,
        model: &str,
        more: &[(String, String)],
    ) -> Result<Self> {
        let clock = data.with_extension("clock");
        std::fs::write(&clock, "+0")?;
        let mut environment = settings(model);
        environment.extend_from_slice(more);
        environment.extend(
            [
                ("LD_PRELOAD", faketime()?.display().to_string()),
                ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
                ("FAKETIME_CACHE_DURATION", "1".into()),
                // A machine's monotonic clock does not jump, and files keep their times.
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
                ("DONT_FAKE_MONOTONIC", "1".into()),
                ("NO_FAKE_STAT", "1".into()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let options = ProcessOptions {
            environment,
            arguments: vec![
                "--agents".into(),
                folder.join("agents").display().to_string(),
            ],
            program,
            log: Some(data.with_extension("log")),
            file_kib: None,
        };
        let process = TestProcess::start_with(data, options.clone()).await?;
        Ok(Self {
            data: data.to_owned(),
            clock,
            options,
            process,
            done: Done::default(),
        })
    }

    pub(crate) fn url(&self) -> &str {
        self.process.url()
    }

    /// Kills it where it stands. Returns the node that it was, where it was one of several.
    pub(crate) async fn kill(&mut self) -> Result<Option<String>> {
        self.count_overflows().await;
        self.process.signal(Signal::KILL)?;
        self.process.ended().await?;
        self.done.kills += 1;
        Ok(std::fs::read_to_string(self.data.join("node")).ok())
    }

    /// Holds it, as a machine that is moved or has too much to do, or lets it go on.
    pub(crate) fn pause(&mut self, paused: bool) -> Result<()> {
        self.done.pauses += u32::from(paused);
        let signal = if paused { Signal::STOP } else { Signal::CONT };
        self.process.signal(signal)
    }

    /// Lets it die between the next commit of events and their fan-out, and starts it again.
    pub(crate) async fn die_after_commit(&mut self) -> Result<()> {
        self.count_overflows().await;
        let file = self.data.join(DIE_AFTER_COMMIT);
        std::fs::write(&file, "")?;
        let ended = self.process.ended().await;
        let status =
            ended.context("it was to die at its next commit: is it built with failpoints?")?;
        ensure!(!file.exists(), "it ended by itself: {status}");
        self.done.deaths_after_commit += 1;
        self.start_again().await
    }

    /// Stops it as an operator does, and starts it again.
    pub(crate) async fn drain(&mut self) -> Result<()> {
        self.count_overflows().await;
        self.stop().await?;
        self.done.drains += 1;
        self.start_again().await
    }

    /// Stops it as an operator does.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        let status = self.process.ended().await?;
        ensure!(status.success(), "told to stop, it ended with {status}");
        Ok(())
    }

    /// Its time of day is now so many seconds from the true one.
    pub(crate) fn jump_to(&mut self, offset_s: i64) -> Result<()> {
        // Written aside and moved: the server must not read half a number.
        let aside = self.clock.with_extension("new");
        std::fs::write(&aside, format!("{offset_s:+}"))?;
        std::fs::rename(&aside, &self.clock)?;
        self.done.jumps.push(offset_s);
        Ok(())
    }

    /// Starts it on what it left.
    pub(crate) async fn start_again(&mut self) -> Result<()> {
        self.process = TestProcess::start_with(&self.data, self.options.clone()).await?;
        Ok(())
    }

    /// Adds up how often a slow client lost its mailbox. The counter dies with the server, so
    /// what is asked in vain is missing.
    pub(crate) async fn count_overflows(&mut self) {
        let asked = tokio::time::timeout(Duration::from_secs(2), overflows(self.process.url()));
        if let Ok(Ok(count)) = asked.await {
            self.done.overflows += count;
        }
    }
}

async fn overflows(url: &str) -> Result<u64> {
    let client = netra_client::Client::new(url, Some(METRICS_TOKEN.to_owned()))?;
    let request = client.request(netra_client::Method::GET, "/api/metrics");
    let text = client.send(request).await?.text().await?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("netra_bridge_mailbox_overflows_total "));
    Ok(line.map_or(Ok(0), str::parse)?)
}

/// The library as Debian has it, for whatever machine this is.
fn faketime() -> Result<PathBuf> {
    for folder in std::fs::read_dir("/usr/lib")? {
        let library = folder?.path().join(FAKETIME);
        if library.is_file() {
            return Ok(library);
        }
    }
    bail!(
        "libfaketime is missing, by which the server's clock jumps: `apt-get install faketime` on \
         Debian, or call `cargo xtask test chaos` as root, which installs it"
    )
}
