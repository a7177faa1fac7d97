//! Who holds what on this node, for admins.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::Json as Answer;
use axum::extract::State;
use netra_context::UserExecutionContext;
use netra_context::memory::{self, Account};
use netra_engine::{Census, Holdings};
use netra_protocol::account::User;
use netra_protocol::id::UserId;
use netra_protocol::isolation::{
    Isolation, MemoryHoldings, MustBeZero, NodeHoldings, Slots, UserHoldings,
};

use crate::error::Error;
use crate::extract::Caller;
use crate::state::Gateway;
use crate::ws::connections::UserCount;

/// How often what must be 0 is looked at, at most, and the time between.
const LOOKS: usize = 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Shows what every user holds
///
/// Slots, memory, sockets, limits that were reached; and the counters that must be 0. Of this node,
/// and without anything of what the runs are about. For admins.
#[utoipa::path(get, path = "/api/admin/isolation", tag = "admin",
    operation_id = "admin_isolation_get",
    responses((status = 200, description = "Who holds what", body = Isolation)))]
pub(crate) async fn isolation_get(
    State(gateway): State<Gateway>,
    caller: Caller,
) -> Result<Answer<Isolation>, Error> {
    let census = gateway.engine.census();
    let seen = Seen {
        accounts: gateway.runtime.open_accounts().into_iter().collect(),
        connections: gateway.connections.by_user(),
        at_limits: gateway.runtime.users_at_limits(),
        programs: programs(&gateway),
        census: &census,
    };
    let mut users = Vec::new();
    for id in seen.users() {
        let user = user_of(&gateway, &caller.ctx, id).await?;
        users.push(seen.user(&gateway, id, user));
    }
    let bytes = |user: &UserHoldings| {
        let memory = user.memory.as_ref();
        memory.map_or(0, |memory| {
            memory.worker_bytes + memory.program_bytes + memory.heap_bytes.unwrap_or(0)
        })
    };
    users.sort_by_key(|user| std::cmp::Reverse(bytes(user)));
    Ok(Answer(Isolation {
        at: gateway.runtime.now(),
        node: node(&gateway, &seen, &users),
        users,
        must_be_zero: must_be_zero(&gateway, &census).await,
    }))
}

/// What programs of tool servers hold, by the user whose they are.
fn programs(gateway: &Gateway) -> HashMap<Option<UserId>, u64> {
    let mut bytes = HashMap::new();
    for program in gateway.runtime.programs() {
        *bytes.entry(program.user()).or_default() += program.bytes();
    }
    bytes
}

async fn user_of(
    gateway: &Gateway,
    ctx: &UserExecutionContext,
    id: UserId,
) -> Result<Option<User>, Error> {
    match gateway.store.user_supervised(ctx, id).await {
        Ok(user) => Ok(Some(user.into_inner())),
        Err(netra_store::Error::NotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What there is of each user in the parts of the server.
struct Seen<'a> {
    accounts: HashMap<UserId, Arc<Account>>,
    connections: HashMap<UserId, UserCount>,
    at_limits: Vec<UserId>,
    programs: HashMap<Option<UserId>, u64>,
    census: &'a Census,
}

impl Seen<'_> {
    fn users(&self) -> BTreeSet<UserId> {
        let accounts = self.accounts.keys();
        let others = self.connections.keys().chain(&self.at_limits);
        let all = accounts.chain(others).chain(self.census.users.keys());
        all.copied().collect()
    }

    fn user(&self, gateway: &Gateway, id: UserId, user: Option<User>) -> UserHoldings {
        // Whoever has left may have no more runs.
        let allowed = user.as_ref().map_or(0, |user| user.limits.concurrent_runs);
        let runs = self.census.users.get(&id).copied().unwrap_or_default();
        let connections = self.connections.get(&id).copied().unwrap_or_default();
        let account = self.accounts.get(&id);
        let hits = gateway.runtime.limits_hit(id).into_iter();
        let outside = Outside {
            workers: runs.worker_bytes,
            programs: self.programs.get(&Some(id)).copied().unwrap_or(0),
        };
        UserHoldings {
            user_id: id,
            name: user.map(|user| user.name),
            slots: slots(runs, u64::from(allowed)),
            memory: account.map(|account| memory_of(account, outside)),
            workers: runs.workers as u64,
            sockets: connections.sockets.into(),
            streams: connections.streams.into(),
            limits_hit: hits
                .map(|(limit, times)| (limit.as_str().to_owned(), times))
                .collect(),
        }
    }
}

fn slots(runs: Holdings, allowed: u64) -> Slots {
    Slots {
        running: runs.running as u64,
        queued: runs.queued as u64,
        waiting: runs.waiting as u64,
        allowed,
    }
}

/// What an account answers for that is not in the server's own memory.
#[derive(Debug, Clone, Copy)]
struct Outside {
    workers: u64,
    programs: u64,
}

impl Outside {
    /// What is left of these bytes for the server's own memory.
    fn of(self, all: u64) -> u64 {
        all.saturating_sub(self.workers.saturating_add(self.programs))
    }
}

fn memory_of(account: &Account, outside: Outside) -> MemoryHoldings {
    let counted = memory::is_counting();
    MemoryHoldings {
        heap_bytes: counted.then(|| outside.of(account.current_bytes())),
        worker_bytes: outside.workers,
        program_bytes: outside.programs,
        peak_bytes: counted.then(|| account.peak_bytes()),
        limit_bytes: account.limit(),
    }
}

fn node(gateway: &Gateway, seen: &Seen<'_>, users: &[UserHoldings]) -> NodeHoldings {
    let sum = |of: fn(&UserHoldings) -> u64| users.iter().map(of).sum();
    let counted = memory::is_counting();
    // A program that serves everybody is on no account.
    let of_users = seen.programs.iter().filter(|(user, _)| user.is_some());
    let on_accounts = Outside {
        workers: seen
            .census
            .users
            .values()
            .map(|user| user.worker_bytes)
            .sum(),
        programs: of_users.map(|(_, bytes)| bytes).sum(),
    };
    NodeHoldings {
        slots: Slots {
            running: sum(|user| user.slots.running),
            queued: sum(|user| user.slots.queued),
            waiting: sum(|user| user.slots.waiting),
            allowed: seen.census.engines_allowed as u64,
        },
        heap_bytes: counted.then(|| on_accounts.of(memory::node_bytes())),
        system_bytes: counted.then(memory::system_bytes),
        program_bytes: seen.programs.values().sum(),
        workers: sum(|user| user.workers),
        connections: sum(|user| user.sockets + user.streams),
        tasks: gateway.runtime.live_tasks() as u64,
    }
}

fn of_census(gateway: &Gateway, census: &Census) -> MustBeZero {
    MustBeZero {
        engines_lost: census.engines_lost(),
        seats_without_run: census.seats_without_run,
        workers_without_run: census.workers_without_run,
        tasks_without_run: census.tasks_without_run,
        foreign_events: gateway.bridge.foreign_events(),
    }
}

/// What is left in every look: what is there for a moment only is on its way.
async fn must_be_zero(gateway: &Gateway, census: &Census) -> MustBeZero {
    let mut least = of_census(gateway, census);
    for _ in 1..LOOKS {
        if least == MustBeZero::default() {
            break;
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
        least = least.least(of_census(gateway, &gateway.engine.census()));
    }
    least
}
