//! What is done to the servers, their database and the network, one after the other.

use std::time::{Duration, Instant};

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rustix::process::Signal;

use crate::Plan;
use crate::cluster::{Cluster, LEASE};
use crate::world::World;

/// The farthest that the clock jumps, in seconds: a key of a repeated request lives for a day.
const FARTHEST_JUMP: i64 = 6 * 3_600;

#[derive(Debug, Clone, Copy)]
enum Bad {
    Kill,
    DieAfterCommit,
    Drain,
    Jump,
    CutAll,
    /// Of several: it stays dead until others have what it had.
    KillForLong,
    /// Longer or shorter than its lease.
    Pause,
    CutFromDatabase,
    RestartDatabase(Signal),
}

/// Each of them in every ten, so that no chaos goes without.
const TEN: [Bad; 10] = [
    Bad::Kill,
    Bad::Kill,
    Bad::Kill,
    Bad::DieAfterCommit,
    Bad::DieAfterCommit,
    Bad::Drain,
    Bad::Jump,
    Bad::Jump,
    Bad::CutAll,
    Bad::CutAll,
];

/// Of several servers; their clocks go together, as those of machines that ask for the time.
const TEN_OF_SEVERAL: [Bad; 10] = [
    Bad::Kill,
    Bad::KillForLong,
    Bad::DieAfterCommit,
    Bad::Drain,
    Bad::CutAll,
    Bad::Pause,
    Bad::CutFromDatabase,
    Bad::CutFromDatabase,
    // Whoever works may end nothing (fast), or not even that is said (immediate).
    Bad::RestartDatabase(Signal::INT),
    Bad::RestartDatabase(Signal::QUIT),
];

/// Does one bad thing after the other.
pub(crate) async fn disturb(plan: &Plan, world: &World, cluster: &mut Cluster) -> Result<()> {
    let mut random = StdRng::seed_from_u64(world.seed ^ 0xd157);
    let began = Instant::now();
    let events = if plan.long {
        plan.events.max(1_000_000)
    } else {
        plan.events
    };
    let is_over = || {
        let long_enough = began.elapsed() >= Duration::from_secs(plan.seconds);
        (long_enough && world.counts.delivered.get() >= events) || !world.faults().is_empty()
    };
    let mut next: Vec<Bad> = Vec::new();
    while !is_over() {
        // Now and then the server lives long enough for slow clients to fall far behind.
        let pause_ms = match random.random_range(0..6) {
            0 => random.random_range(3_000..6_000),
            _ => random.random_range(50..1_500),
        };
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        if next.is_empty() {
            next.extend(if plan.nodes > 1 { TEN_OF_SEVERAL } else { TEN });
            next.shuffle(&mut random);
        }
        if let Some(bad) = next.pop() {
            once(bad, cluster, &mut random).await?;
            cluster.aim()?;
        }
    }
    for late in cluster
        .takeovers()
        .iter()
        .filter(|one| one.took > one.allowed)
    {
        let (took, allowed) = (late.took, late.allowed);
        world.fault(format!(
            "what a killed node had went on after {took:?}, not within {allowed:?}"
        ));
    }
    Ok(())
}

async fn once(bad: Bad, cluster: &mut Cluster, random: &mut StdRng) -> Result<()> {
    let at = match cluster.nodes.len() {
        1 => 0,
        several => random.random_range(0..several),
    };
    let mut shorter_or_longer = || {
        let lease = u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(random.random_range(lease / 4..lease * 2))
    };
    match bad {
        Bad::Kill => {
            cluster.nodes[at].kill().await?;
            cluster.nodes[at].start_again().await?;
        }
        Bad::DieAfterCommit => cluster.nodes[at].die_after_commit().await?,
        Bad::Drain => cluster.nodes[at].drain().await?,
        Bad::Jump => {
            let seconds = random.random_range(-FARTHEST_JUMP..FARTHEST_JUMP);
            cluster.nodes[at].jump_to(seconds)?;
        }
        Bad::CutAll => cluster.proxy.cut_all(),
        Bad::KillForLong => cluster.kill_for_long(at).await?,
        Bad::Pause => {
            let how_long = shorter_or_longer();
            cluster.nodes[at].pause(true)?;
            tokio::time::sleep(how_long).await;
            cluster.nodes[at].pause(false)?;
        }
        Bad::CutFromDatabase => {
            let how_long = shorter_or_longer();
            cluster.cut_from_database(at, how_long).await;
        }
        Bad::RestartDatabase(signal) => cluster.restart_database(signal).await?,
    }
    Ok(())
}
