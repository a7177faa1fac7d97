//! Processes that a server has started, seen from outside.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use netra_integration::soon;
use rustix::process::{Pid, Signal, kill_process};

/// How often the system is looked at again: it does not call when a process begins or ends.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// All descendants of a process whose command line has this word, by pid.
pub(crate) fn descendants(of: u32, word: &str) -> Result<Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Ok(pid) = name.to_string_lossy().parse() else {
            continue;
        };
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut open = vec![of];
    while let Some(pid) = open.pop() {
        let below = children.remove(&pid).unwrap_or_default();
        open.extend(&below);
        found.extend(
            below
                .into_iter()
                .filter(|pid| words(*pid).iter().any(|one| one.contains(word))),
        );
    }
    found.sort_unstable();
    Ok(found)
}

/// None where the process has ended, even if nobody has taken note of it.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may hold anything, also brackets.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    (state != "Z" && state != "X").then(|| fields.next()?.parse().ok())?
}

fn words(pid: u32) -> Vec<String> {
    read_words(pid, "cmdline")
}

fn read_words(pid: u32, file: &str) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let words = bytes.split(|byte| *byte == 0);
    words
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// A variable of a process's environment.
pub(crate) fn variable(pid: u32, name: &str) -> Result<String> {
    let all = read_words(pid, "environ");
    let found = all
        .iter()
        .find_map(|one| one.strip_prefix(name)?.strip_prefix('='));
    Ok(found
        .with_context(|| format!("{name} of {pid}: {all:?}"))?
        .to_owned())
}

/// Whether the process is there.
pub(crate) fn is_alive(pid: u32) -> bool {
    parent(pid).is_some()
}

/// Waits until it is so.
pub(crate) async fn until_so(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    soon(what, async {
        while !is_so()? {
            looks.tick().await;
        }
        Ok(())
    })
    .await
}

/// Sends a signal.
pub(crate) fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("no process has the number 0")?;
    Ok(kill_process(pid, signal)?)
}
