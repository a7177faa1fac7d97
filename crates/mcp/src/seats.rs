//! All seats: who has one where, how many instances there may be, and the end of those that nobody
//! calls.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};

use netra_context::Runtime;
use netra_context::runtime::TaskKind;
use netra_protocol::error::Failure;
use netra_protocol::id::UserId;
use netra_tools::Registry;
use parking_lot::Mutex;

use crate::content::failed;
use crate::instance::Instance;
use crate::seat::Seat;
use crate::server::Server;

/// The seats of users and of everybody; those of runs belong to their runs.
pub(crate) struct Seats {
    runtime: Runtime,
    instances: usize,
    instances_per_user: usize,
    table: Mutex<Table>,
    taken: Arc<Mutex<Taken>>,
    /// Who is told what an instance has that says that its tools are others now. It holds the servers and so the seats:
    /// were it held from here, neither would ever go, nor the store and its connections.
    registry: OnceLock<Weak<Registry>>,
}

#[derive(Default)]
struct Table {
    /// By server, which its seat keeps where it is, and owner.
    held: HashMap<(usize, Option<UserId>), Arc<Seat>>,
    /// Seats of runs, which end with them.
    of_runs: Vec<Weak<Seat>>,
}

/// How many instances there are.
#[derive(Default)]
struct Taken {
    all: usize,
    by_user: HashMap<UserId, usize>,
    by_server: HashMap<String, usize>,
}

/// The right to one instance, until it is dropped.
pub(crate) struct Place {
    server: String,
    user: Option<UserId>,
    taken: Arc<Mutex<Taken>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        taken.all = taken.all.saturating_sub(1);
        metrics::gauge!("netra_mcp_instances", "server" => self.server.clone()).decrement(1.0);
        less(&mut taken.by_server, &self.server);
        if let Some(user) = &self.user {
            less(&mut taken.by_user, user);
        }
    }
}

fn less<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Seats {
    pub(crate) fn new(runtime: &Runtime, instances: usize, instances_per_user: usize) -> Self {
        Self {
            runtime: runtime.clone(),
            instances,
            instances_per_user,
            table: Mutex::default(),
            taken: Arc::default(),
            registry: OnceLock::new(),
        }
    }

    /// Instances that say that their tools are others now are asked for them, for this registry.
    pub(crate) fn tell(&self, registry: &Arc<Registry>) {
        // A second one would be told nothing; there is one for each node.
        self.registry.set(Arc::downgrade(registry)).ok();
    }

    /// The registry, where one is to be told and is still there.
    pub(crate) fn registry(&self) -> Option<Arc<Registry>> {
        self.registry.get().and_then(Weak::upgrade)
    }

    pub(crate) const fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The instance that this user has at the server now, or everybody.
    pub(crate) async fn seated(
        &self,
        server: &Arc<Server>,
        user: Option<UserId>,
    ) -> Option<Arc<Instance>> {
        let key = (Arc::as_ptr(server) as usize, user);
        let seat = self.table.lock().held.get(&key).map(Arc::clone)?;
        seat.seated().await
    }

    /// The seat of this user at the server, or of everybody.
    pub(crate) fn of(&self, server: &Arc<Server>, user: Option<UserId>) -> Arc<Seat> {
        let mut table = self.table.lock();
        let key = (Arc::as_ptr(server) as usize, user);
        let seat = table
            .held
            .entry(key)
            .or_insert_with(|| Arc::new(Seat::new(Arc::clone(server), user)));
        Arc::clone(seat)
    }

    /// Looks after the seat of a run, too.
    pub(crate) fn watch(&self, seat: &Arc<Seat>) {
        let mut table = self.table.lock();
        table.of_runs.retain(|seat| seat.strong_count() > 0);
        table.of_runs.push(Arc::downgrade(seat));
    }

    /// Makes room for one more instance: what its owner has not used the longest goes first.
    pub(crate) fn take_place(seats: &Arc<Self>, seat: &Seat) -> Result<Place, Failure> {
        loop {
            let full = match seats.try_take(seat) {
                Ok(place) => return Ok(place),
                Err(full) => full,
            };
            if !seats.evict(seat, full) {
                let words = match full {
                    Full::OfUser => format!(
                        "as many tool servers of yours are at work as there may be ({})",
                        seats.instances_per_user
                    ),
                    Full::OfAll => format!(
                        "as many tool servers are at work as there may be ({})",
                        seats.instances
                    ),
                };
                return Err(failed("too_many_instances", words));
            }
        }
    }

    fn try_take(&self, seat: &Seat) -> Result<Place, Full> {
        let mut taken = self.taken.lock();
        if taken.all >= self.instances {
            return Err(Full::OfAll);
        }
        if let Some(user) = seat.user {
            let of_user = taken.by_user.entry(user).or_default();
            if *of_user >= self.instances_per_user {
                return Err(Full::OfUser);
            }
            *of_user += 1;
        }
        taken.all += 1;
        let server = seat.server.label().to_owned();
        *taken.by_server.entry(server.clone()).or_default() += 1;
        metrics::gauge!("netra_mcp_instances", "server" => server.clone()).increment(1.0);
        Ok(Place {
            server,
            user: seat.user,
            taken: Arc::clone(&self.taken),
        })
    }

    /// Ends the instance that has been idle the longest, of those that would make room.
    fn evict(&self, for_seat: &Seat, full: Full) -> bool {
        let mut idle: Vec<_> = self
            .all()
            .into_iter()
            .filter(|seat| full == Full::OfAll || seat.user == for_seat.user)
            .filter_map(|seat| Some((seat.last_used()?, seat)))
            .collect();
        idle.sort_by_key(|(last, _)| *last);
        for (_, seat) in idle {
            if let Some((instance, place)) = seat.vacate() {
                // The place is free at once; the instance ends on its own.
                drop(place);
                self.stop(instance);
                return true;
            }
        }
        false
    }

    /// Ends an instance, once nobody has it any more.
    pub(crate) fn stop(&self, instance: Arc<Instance>) {
        let Some(instance) = Arc::into_inner(instance) else {
            return;
        };
        self.runtime.spawn(TaskKind::Part, instance.stop());
    }

    fn all(&self) -> Vec<Arc<Seat>> {
        let table = self.table.lock();
        let held = table.held.values().cloned();
        held.chain(table.of_runs.iter().filter_map(Weak::upgrade))
            .collect()
    }

    /// Ends what nobody has called for long, or what idles while its user has no memory left. The watch over memory
    /// ends what is at work.
    pub(crate) fn sweep(&self) {
        for seat in self.all() {
            let idle = seat.server.config.idle;
            if seat.is_idle(idle) || (seat.last_used().is_some() && seat.is_over()) {
                self.end(&seat);
            }
        }
        // An empty seat that nobody holds is no seat.
        let mut table = self.table.lock();
        table.held.retain(|_, seat| {
            Arc::strong_count(seat) > 1 || !seat.is_idle(seat.server.config.idle)
        });
    }

    fn end(&self, seat: &Seat) {
        if let Some((instance, place)) = seat.vacate() {
            drop(place);
            self.stop(instance);
        }
    }

    /// Ends what runs for this user.
    pub(crate) fn forget(&self, user: UserId) {
        let mut gone = Vec::new();
        self.table.lock().held.retain(|(_, owner), seat| {
            let stays = *owner != Some(user);
            if !stays {
                gone.push(Arc::clone(seat));
            }
            stays
        });
        gone.iter().for_each(|seat| self.end(seat));
    }

    /// Ends what runs for everybody at this server.
    pub(crate) fn close(&self, server: &Arc<Server>) {
        let of_server = |seat: &Arc<Seat>| Arc::ptr_eq(&seat.server, server);
        let mut table = self.table.lock();
        let gone = table.held.extract_if(|_, seat| of_server(seat));
        let gone: Vec<_> = gone.map(|(_, seat)| seat).collect();
        drop(table);
        gone.iter().for_each(|seat| self.end(seat));
    }

    /// Ends everything.
    pub(crate) fn clear(&self) {
        let table = std::mem::take(&mut *self.table.lock());
        table.held.values().for_each(|seat| self.end(seat));
    }

    /// How many instances of the server there are.
    pub(crate) fn instances_of(&self, server: &str) -> usize {
        self.taken
            .lock()
            .by_server
            .get(server)
            .copied()
            .unwrap_or(0)
    }
}

/// Whose bound is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Full {
    OfUser,
    OfAll,
}
