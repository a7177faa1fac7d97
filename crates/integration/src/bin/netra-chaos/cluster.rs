//! The servers that are tried: one, or several over one PostgreSQL, all behind one bad network.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use netra_integration::{Proxy, database_of, raw_sql};
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::Plan;
use crate::victim::{Done, Victim};

/// How long a node of several is taken for alive without a word of it. Short, so that there is time for many deaths.
pub(crate) const LEASE: Duration = Duration::from_secs(3);
/// Within so much more than the lease others go on with what a dead node had.
const LOOKS: Duration = Duration::from_secs(2);
/// What a machine that runs all of them, their database and their clients may take besides.
const BUSY: Duration = Duration::from_secs(3);
/// How long PostgreSQL may take to come back.
const BACK: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Servers, the network before them, and what is between each of several and their database.
pub(crate) struct Cluster {
    pub(crate) proxy: Proxy,
    pub(crate) nodes: Vec<Victim>,
    lines: Vec<Proxy>,
    data: PathBuf,
    postgres: Option<PathBuf>,
    /// How often a node was cut from its database, and the database restarted.
    cuts: u32,
    restarts: u32,
    /// When the database came back last.
    back_at: Option<Instant>,
    takeovers: Vec<Takeover>,
}

/// How long it took until others had all that a killed node had.
#[derive(Clone, Copy)]
pub(crate) struct Takeover {
    pub(crate) took: Duration,
    pub(crate) allowed: Duration,
}

impl Cluster {
    pub(crate) async fn start(
        plan: &Plan,
        (folder, seed): (&Path, u64),
        model: &str,
    ) -> Result<Self> {
        let data = folder.join("data");
        let (mut nodes, mut lines) = (Vec::new(), Vec::new());
        for number in 0..plan.nodes {
            let own = match number {
                0 => data.clone(),
                _ => folder.join(format!("data-{number}")),
            };
            let mut more = Vec::new();
            if plan.nodes > 1 {
                let (line, settings) = line_to_database(&data, seed)?;
                lines.push(line);
                more = settings;
                share(&data, &own)?;
            }
            let place = (folder, &*own);
            nodes.push(Victim::start(place, Some(plan.server.clone()), model, &more).await?);
        }
        let first = nodes.first().context("chaos needs a server")?;
        let cluster = Self {
            proxy: Proxy::start(first.url(), seed)?,
            nodes,
            lines,
            data,
            postgres: plan.postgres.clone(),
            cuts: 0,
            restarts: 0,
            back_at: None,
            takeovers: Vec::new(),
        };
        cluster.aim()?;
        Ok(cluster)
    }

    /// The data folder by which all of them are looked into from beside.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// One of them, without the bad network.
    pub(crate) fn direct(&self) -> &str {
        self.nodes.first().map_or("", Victim::url)
    }

    /// Lets clients find the servers as they are now.
    pub(crate) fn aim(&self) -> Result<()> {
        let urls: Vec<&str> = self.nodes.iter().map(Victim::url).collect();
        self.proxy.aim(&urls)
    }

    /// Kills a node. Others go on with what it had in time, before it comes back.
    pub(crate) async fn kill_for_long(&mut self, at: usize) -> Result<()> {
        let dead = self.nodes[at].kill().await?;
        let killed = Instant::now();
        // Who has lost its own lease with the database takes nothing before it has had it again for as long.
        let was_away = self.back_at.is_some_and(|back| back.elapsed() < LEASE);
        let allowed = if was_away { 2 * LEASE } else { LEASE } + LOOKS + BUSY;
        let dead = dead.context("each of several is a node")?;
        while self.held_by(&dead).await? > 0 {
            ensure!(
                killed.elapsed() < BACK,
                "nobody goes on with what {dead} had"
            );
            sleep(PAUSE).await;
        }
        let took = killed.elapsed();
        self.takeovers.push(Takeover { took, allowed });
        self.nodes[at].start_again().await
    }

    /// How many runs the database says that a node has.
    async fn held_by(&self, node: &str) -> Result<u64> {
        let sql = format!(
            "SET netra.everybody = 'on'; SELECT count(*) FROM runs
             WHERE node = '{node}' AND status IN ('queued', 'running', 'waiting')"
        );
        let data = self.data.clone();
        let said = spawn_blocking(move || raw_sql(&data, &sql)).await??;
        Ok(said.trim().parse()?)
    }

    /// Cuts a node from its database for so long.
    pub(crate) async fn cut_from_database(&mut self, at: usize, how_long: Duration) {
        self.cuts += 1;
        self.lines[at].shut(true);
        sleep(how_long).await;
        self.lines[at].shut(false);
    }

    /// Stops PostgreSQL by this signal and waits until it is there again.
    pub(crate) async fn restart_database(&mut self, signal: Signal) -> Result<()> {
        let Some(folder) = self.postgres.clone() else {
            return Ok(());
        };
        self.restarts += 1;
        let before = postmaster(&folder).context("PostgreSQL does not run")?;
        kill_process(before, signal)?;
        let data = self.data.clone();
        let is_back = async {
            loop {
                sleep(PAUSE).await;
                if postmaster(&folder).is_none_or(|now| now == before) {
                    continue;
                }
                let data = data.clone();
                let said = spawn_blocking(move || raw_sql(&data, "SELECT 1")).await;
                if matches!(said, Ok(Ok(_))) {
                    return;
                }
            }
        };
        timeout(BACK, is_back)
            .await
            .context("PostgreSQL does not come back: who starts it?")?;
        self.back_at = Some(Instant::now());
        Ok(())
    }

    /// Stops all of them as an operator does.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            node.count_overflows().await;
            node.stop().await?;
        }
        Ok(())
    }

    /// What was done to all of them together.
    pub(crate) fn done(&self) -> Done {
        self.nodes.iter().fold(Done::default(), |all, node| Done {
            kills: all.kills + node.done.kills,
            deaths_after_commit: all.deaths_after_commit + node.done.deaths_after_commit,
            drains: all.drains + node.done.drains,
            jumps: [all.jumps, node.done.jumps.clone()].concat(),
            pauses: all.pauses + node.done.pauses,
            overflows: all.overflows + node.done.overflows,
        })
    }

    /// Each time that a killed node stayed dead.
    pub(crate) fn takeovers(&self) -> &[Takeover] {
        &self.takeovers
    }

    /// For reports: what only several servers have.
    pub(crate) fn of_several(&self) -> String {
        let seconds = |one: &Takeover| format!("{:.1}", one.took.as_secs_f64());
        let takeovers: Vec<String> = self.takeovers.iter().map(seconds).collect();
        format!(
            "  database: {} restarts, {} cuts of a node from it; runs of nodes that stayed dead were with others after \
             [{}] s of a lease of {} s",
            self.restarts,
            self.cuts,
            takeovers.join(", "),
            LEASE.as_secs(),
        )
    }
}

/// A node's own way to the database of the first, which can be cut, and the settings by which it takes it.
fn line_to_database(first: &Path, seed: u64) -> Result<(Proxy, Vec<(String, String)>)> {
    let settings = database_of(first)?;
    let place = settings.iter().find_map(|(_, url)| {
        let (_, rest) = url.split_once('@')?;
        rest.split_once('/').map(|(place, _)| place.to_owned())
    });
    let place = place.context("several servers need PostgreSQL: `cargo xtask test cluster`")?;
    let line = Proxy::start(&place, seed)?;
    let own = line.url().trim_start_matches("http://").to_owned();
    let through = |url: String| url.replacen(&place, &own, 1);
    let mut settings: Vec<_> = settings
        .into_iter()
        .map(|(name, url)| (name, through(url)))
        .collect();
    let lease = LEASE.as_millis().to_string();
    settings.push(("NETRA__DATABASE__LEASE_MS".into(), lease));
    Ok((line, settings))
}

/// Gives a node's folder the keys and the files of the first.
fn share(first: &Path, own: &Path) -> Result<()> {
    if first == own {
        return Ok(());
    }
    std::fs::create_dir_all(own)?;
    for name in ["keys", "secret-keys"] {
        let file = first.join(name);
        if file.exists() {
            std::fs::copy(file, own.join(name))?;
        }
    }
    std::os::unix::fs::symlink(first.join("files"), own.join("files"))?;
    Ok(())
}

/// The first process of the PostgreSQL that works on this folder.
fn postmaster(folder: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(folder.join("postmaster.pid")).ok()?;
    Pid::from_raw(text.lines().next()?.trim().parse().ok()?)
}
