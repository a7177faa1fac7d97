//! What the system says of a process's memory, looked at from outside all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The memory that is a process's alone (`RssAnon`), watched until this is dropped.
pub(crate) struct Resident {
    pid: u32,
    most: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Resident {
    pub(crate) fn watch(pid: u32) -> Result<Self> {
        now(pid)?;
        let (most, over) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (seen, until) = (Arc::clone(&most), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                // A process that has ended holds nothing.
                seen.fetch_max(now(pid).unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(LOOK_EVERY);
            }
        });
        Ok(Self {
            pid,
            most,
            over,
            thread: Some(thread),
        })
    }

    /// Begins anew: what there is now is the most there was.
    pub(crate) fn begin(&self) -> Result<u64> {
        let now = now(self.pid)?;
        self.most.store(now, Ordering::Relaxed);
        Ok(now)
    }

    /// The most there was since then.
    pub(crate) fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// In bytes.
fn now(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .context("RssAnon")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib * 1024)
}
