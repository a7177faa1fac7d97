//! Nodes over one table of runs, under seeded simulation: they pause, die, come back, and their messages take a while.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;

const LENGTH: Duration = Duration::from_secs(10);
/// What the scenario may take beyond the lease until a dead node's runs go on.
const MORE: Duration = Duration::from_secs(2);
const NODES: usize = 3;
const RUNS: usize = 4;

/// The database, with a clock of its own.
struct Table {
    expires: [Option<Instant>; NODES],
    runs: Vec<Run>,
}

#[derive(Clone)]
struct Run {
    node: usize,
    fence: u64,
    /// Who wrote each step, under which fence.
    steps: Vec<(usize, u64)>,
}

impl Table {
    /// As `run_take` does: only from a node whose lease is over.
    fn take(&mut self, run: usize, by: usize, now: Instant) -> Option<u64> {
        let run = &mut self.runs[run];
        let is_alive = self.expires[run.node].is_some_and(|until| now < until);
        if is_alive || run.node == by {
            return None;
        }
        run.node = by;
        run.fence += 1;
        Some(run.fence)
    }

    /// As `refuse_ended` does.
    fn write(&mut self, run: usize, by: usize, fence: u64) -> bool {
        let run = &mut self.runs[run];
        let is_held = run.fence == fence;
        if is_held {
            run.steps.push((by, fence));
        }
        is_held
    }
}

struct Node {
    lease: Lease,
    /// The fences of the engines that it has.
    engines: [Option<u64>; RUNS],
    /// A heartbeat that is on its way: when it was asked for, when it arrives, when the answer does.
    beat: Option<(Instant, Instant, Instant)>,
    paused_until: Option<Instant>,
    is_dead: bool,
    looks_at: Instant,
    /// Since when it works and may take runs.
    awake_since: Option<Instant>,
}

impl Node {
    fn new(now: Instant) -> Self {
        Self {
            lease: Lease::new(LENGTH, now),
            engines: [None; RUNS],
            beat: None,
            paused_until: None,
            is_dead: false,
            looks_at: now,
            awake_since: None,
        }
    }

    fn works(&self, now: Instant) -> bool {
        !self.is_dead && self.paused_until.is_none_or(|until| now >= until)
    }
}

fn millis(random: &mut StdRng, most: u64) -> Duration {
    Duration::from_millis(random.random_range(0..most))
}

/// What happens to a node between two of its steps.
fn disturb(node: &mut Node, now: Instant, random: &mut StdRng, alive: usize) {
    match random.random_range(0..20_000) {
        0 if alive > 1 => node.is_dead = true,
        1..20 => node.paused_until = Some(now + millis(random, 30_000)),
        _ => {}
    }
}

fn beat(node: &mut Node, now: Instant, random: &mut StdRng) {
    match node.beat {
        Some((asked, _, answered)) if now >= answered => {
            node.lease.renewed(asked);
            node.beat = None;
        }
        None if node.lease.due(now).is_zero() => {
            node.lease.asks(now);
            let arrives = now + millis(random, 200);
            node.beat = Some((now, arrives, arrives + millis(random, 200)));
        }
        _ => {}
    }
}

/// Heartbeats arrive whatever became of whoever sent them.
fn arrive(nodes: &[Node], table: &mut Table, now: Instant, step: Duration) {
    for (id, node) in nodes.iter().enumerate() {
        if let Some((_, arrives, _)) = node.beat
            && (arrives..arrives + step).contains(&now)
        {
            table.expires[id] = Some(now + LENGTH);
        }
    }
}

/// Each engine writes a step; those that may not are dropped.
fn write(node: &mut Node, id: usize, table: &mut Table) -> usize {
    let mut refused = 0;
    for (run, engine) in node.engines.iter_mut().enumerate() {
        if let Some(fence) = *engine
            && !table.write(run, id, fence)
        {
            *engine = None;
            refused += 1;
        }
    }
    refused
}

/// Takes what has no living holder.
fn look(nodes: &mut [Node], id: usize, table: &mut Table, now: Instant) -> usize {
    if now < nodes[id].looks_at || !nodes[id].lease.may_take(now) {
        return 0;
    }
    nodes[id].looks_at = now + BEAT;
    let mut taken = 0;
    for run in 0..RUNS {
        let before = table.runs[run].node;
        if let Some(fence) = table.take(run, id, now) {
            assert!(
                !nodes[before].lease.is_held(now),
                "taken from one that is sure of its lease"
            );
            nodes[id].engines[run] = Some(fence);
            taken += 1;
        }
    }
    taken
}

fn simulate(seed: u64) -> (usize, usize) {
    let mut random = StdRng::seed_from_u64(seed);
    let begin = Instant::now();
    let run = Run {
        node: 0,
        fence: 1,
        steps: Vec::new(),
    };
    let mut table = Table {
        expires: [None; NODES],
        runs: vec![run; RUNS],
    };
    let mut nodes: Vec<Node> = (0..NODES).map(|_| Node::new(begin)).collect();
    table.expires[0] = Some(begin + LENGTH);
    nodes[0].engines = [Some(1); RUNS];
    let step = Duration::from_millis(10);
    let (mut refused, mut taken) = (0, 0);
    for turn in 0..12_000_u32 {
        let now = begin + step * turn;
        arrive(&nodes, &mut table, now, step);
        for id in 0..NODES {
            let alive = nodes.iter().filter(|node| !node.is_dead).count();
            if nodes[id].works(now) {
                disturb(&mut nodes[id], now, &mut random, alive);
                beat(&mut nodes[id], now, &mut random);
                refused += write(&mut nodes[id], id, &mut table);
                taken += look(&mut nodes, id, &mut table, now);
            }
            let node = &mut nodes[id];
            let awake = node.works(now) && node.lease.may_take(now);
            node.awake_since = awake.then(|| node.awake_since.unwrap_or(now));
        }
        for run in &table.runs {
            let is_over = table.expires[run.node].is_none_or(|until| now >= until + MORE);
            let could = nodes.iter().enumerate().any(|(id, node)| {
                id != run.node && node.awake_since.is_some_and(|since| now >= since + MORE)
            });
            assert!(!(is_over && could), "seed {seed}: a run is left lying");
        }
    }
    for run in &table.runs {
        let fences: Vec<u64> = run.steps.iter().map(|(_, fence)| *fence).collect();
        assert!(
            fences.is_sorted(),
            "seed {seed}: an earlier holder wrote later"
        );
        for pair in run.steps.windows(2) {
            let [(before, old), (after, new)] = pair else {
                continue;
            };
            assert!(
                old != new || before == after,
                "seed {seed}: two write under one fence"
            );
        }
    }
    (refused, taken)
}

#[test]
fn under_every_schedule_one_node_writes_a_run_and_none_is_left_lying() {
    let (mut refused, mut taken) = (0, 0);
    for seed in 0..40 {
        let (r, t) = simulate(seed);
        refused += r;
        taken += t;
    }
    // The schedules are such that it does happen.
    assert!(
        refused > 10 && taken > 40,
        "{refused} refused, {taken} taken"
    );
}

#[test]
fn a_lease_counts_from_the_question_not_from_the_answer() {
    let begin = Instant::now();
    let mut lease = Lease::new(LENGTH, begin);
    assert!(lease.due(begin).is_zero() && !lease.is_held(begin));
    lease.asks(begin);
    assert_eq!(lease.due(begin), BEAT);
    lease.renewed(begin);
    assert!(lease.is_held(begin + LENGTH - Duration::from_millis(1)));
    assert!(!lease.is_held(begin + LENGTH));
    // Once it was lost, others are given as long.
    assert!(lease.may_take(begin));
    let later = begin + LENGTH * 2;
    lease.renewed(later);
    assert!(lease.is_held(later) && !lease.may_take(later));
    lease.renewed(later + LENGTH / 2);
    assert!(lease.may_take(later + LENGTH));
    let short = Lease::new(Duration::from_secs(1), begin);
    let mut short = short.clone();
    short.asks(begin);
    assert_eq!(short.due(begin), Duration::from_millis(250));
    assert_eq!(short.length(), Duration::from_secs(1));
}
