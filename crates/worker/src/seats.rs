//! Seats: how many workers may work at once, who has one, and who must give it up while it only waits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use netra_memory::Scope;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use crate::error::Error;
use crate::frame::Kind;
use crate::limits::Config;
use crate::meter::Meter;
use crate::nursery::Nursery;
use crate::process::{Lost, Process};
use crate::turns::{Turn, Turns};
use crate::wire::ToScript;

pub(crate) use crate::turns::Owner;

/// How long a script may wait with its worker before others may take it. Most answers come sooner, and then taking
/// the worker away would only cost.
const PATIENCE: Duration = Duration::from_millis(20);
/// How long a waiting worker may take to write its snapshot.
const PARKING_TIME: Duration = Duration::from_secs(10);

/// A worker at work, and the right to have it at work.
#[derive(Debug)]
pub(crate) struct Seated {
    pub(crate) process: Box<Process>,
    /// Dropped after the worker has ended.
    _turn: Turn,
}

/// All workers of one kind.
#[derive(Debug)]
pub(crate) struct Seats {
    turns: Turns,
    nursery: Nursery,
    /// Scripts that wait for an answer and still have their worker, the longest waiting first.
    idle: Mutex<BTreeMap<u64, Idle>>,
    next_id: AtomicU64,
}

#[derive(Debug)]
struct Idle {
    since: Instant,
    owner: Owner,
    parking: Weak<Parking>,
}

/// The script that waits, as far as its seat must know it.
#[derive(Debug)]
pub(crate) struct Sitter {
    pub(crate) owner: Owner,
    /// Whose memory a snapshot is.
    pub(crate) scope: Scope,
    pub(crate) meter: Meter,
    /// The most bytes that a snapshot may have.
    pub(crate) max_snapshot: usize,
}

/// Where a script that waits for an answer keeps its worker, or what became of it.
#[derive(Debug)]
pub(crate) struct Parking {
    id: u64,
    owner: Owner,
    /// Whose memory a snapshot is.
    scope: Scope,
    max_snapshot: usize,
    /// Reads this script's worker.
    meter: Meter,
    place: tokio::sync::Mutex<Place>,
}

#[derive(Debug)]
enum Place {
    Seated(Seated),
    Snapshot(Vec<u8>),
    Lost(Lost),
    Left,
}

/// What a script gets back when it goes on.
#[derive(Debug)]
pub(crate) enum Regained {
    /// The worker it had, just where it was.
    Same(Seated),
    /// Another worker, and the snapshot to give to it.
    Fresh(Seated, Vec<u8>),
    /// Its worker was lost in the meantime.
    Lost(Lost),
}

impl Seats {
    pub(crate) fn new(config: Config, argument: &'static str) -> Seats {
        Seats {
            turns: Turns::new(config.workers),
            nursery: Nursery::new(config, argument),
            idle: Mutex::new(BTreeMap::new()),
            next_id: AtomicU64::new(0),
        }
    }

    /// Lets workers be started until as many are warm as configured.
    pub(crate) fn warm_up(&self) {
        self.nursery.fill_up();
    }

    /// Where its workers come from.
    pub(crate) fn nursery(&self) -> &Nursery {
        &self.nursery
    }

    /// A fresh worker, as soon as it is this owner's turn.
    pub(crate) async fn sit(&self, owner: Owner) -> Result<Seated, Error> {
        let turn = self.turn(owner).await;
        let process = self.nursery.worker().await.map_err(Error::Start)?;
        let process = Box::new(process);
        Ok(Seated {
            process,
            _turn: turn,
        })
    }

    /// Lets a script wait in its seat; whoever is short of workers may take it from there.
    pub(crate) fn wait(&self, seated: Seated, sitter: Sitter) -> Arc<Parking> {
        let Sitter {
            owner,
            scope,
            meter,
            max_snapshot,
        } = sitter;
        let parking = Arc::new(Parking {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            owner,
            scope,
            max_snapshot,
            meter,
            place: tokio::sync::Mutex::new(Place::Seated(seated)),
        });
        self.offer(&parking);
        parking
    }

    fn offer(&self, parking: &Arc<Parking>) {
        let idle = Idle {
            since: Instant::now(),
            owner: parking.owner,
            parking: Arc::downgrade(parking),
        };
        self.idle.lock().insert(parking.id, idle);
        self.turns.lends();
    }

    /// Gives a script that waited its worker back, or another one once it is its turn.
    pub(crate) async fn regain(&self, parking: &Parking) -> Result<Regained, Error> {
        self.idle.lock().remove(&parking.id);
        let mut place = parking.place.lock().await;
        // The place is changed only after the last await, so that nothing is lost if this future is dropped.
        let fresh = match *place {
            Place::Snapshot(_) => Some(self.sit(parking.owner).await?),
            Place::Seated(_) | Place::Lost(_) | Place::Left => None,
        };
        match (std::mem::replace(&mut *place, Place::Left), fresh) {
            (Place::Seated(seated), _) => Ok(Regained::Same(seated)),
            (Place::Snapshot(snapshot), Some(seated)) => Ok(Regained::Fresh(seated, snapshot)),
            (Place::Lost(lost), _) => Ok(Regained::Lost(lost)),
            (Place::Snapshot(_) | Place::Left, _) => Err(Error::Misuse("it was resumed twice")),
        }
    }

    /// The right to have one worker at work. Where none is free, scripts that only wait give theirs up.
    async fn turn(&self, owner: Owner) -> Turn {
        let mut waiting = self.turns.enter(owner);
        loop {
            let changed = self.turns.changed();
            if waiting.has_come() {
                return waiting.taken();
            }
            let ripe = match self.longest_idle(owner) {
                Some(Ok(parking)) => {
                    // What this frees is for whoever is next in line.
                    self.take_from(&parking).await;
                    continue;
                }
                Some(Err(ripe)) => Some(ripe),
                None => None,
            };
            tokio::select! {
                biased;
                () = waiting.come() => return waiting.taken(),
                () = changed => {}
                () = ripens(ripe) => {}
            }
        }
    }

    /// Takes the script off the list that has waited longest of those whose worker would help this owner, or says
    /// when it may be taken.
    fn longest_idle(&self, owner: Owner) -> Option<Result<Weak<Parking>, Instant>> {
        let any_helps = self.turns.would_start(owner);
        let mut all = self.idle.lock();
        let (id, ripe) = all
            .iter()
            .find(|(_, idle)| any_helps || idle.owner == owner)
            .map(|(id, idle)| (*id, idle.since + PATIENCE))?;
        if ripe <= Instant::now() {
            all.remove(&id).map(|idle| Ok(idle.parking))
        } else {
            Some(Err(ripe))
        }
    }

    /// Has the worker of a waiting script write its snapshot, and ends it, which passes its turn on.
    async fn take_from(&self, parking: &Weak<Parking>) {
        let Some(parking) = parking.upgrade() else {
            return;
        };
        // Locked means that its script is just going on.
        let Ok(mut place) = parking.place.try_lock() else {
            return;
        };
        let Place::Seated(seated) = &mut *place else {
            return;
        };
        // Should this future be dropped halfway, the seat must be there to be taken by the next.
        let mut offer_again = OfferAgain {
            seats: self,
            parking: Some(&parking),
        };
        let outcome = parking
            .scope
            .wrap(seated.process.snapshot(parking.max_snapshot))
            .await;
        offer_again.parking = None;
        parking.meter.set(None);
        *place = match outcome {
            Ok(snapshot) => Place::Snapshot(snapshot),
            Err(lost) => Place::Lost(lost),
        };
    }
}

async fn ripens(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

struct OfferAgain<'a> {
    seats: &'a Seats,
    parking: Option<&'a Arc<Parking>>,
}

impl Drop for OfferAgain<'_> {
    fn drop(&mut self) {
        if let Some(parking) = self.parking {
            self.seats.offer(parking);
        }
    }
}

impl Process {
    /// Asks a worker whose script waits for its snapshot.
    async fn snapshot(&mut self, max: usize) -> Result<Vec<u8>, Lost> {
        if !self.owes_snapshot {
            self.queue(&ToScript::Snapshot)
                .map_err(|error| Lost::Nonsense(error.to_string()))?;
            self.owes_snapshot = true;
        }
        match timeout(PARKING_TIME, self.receive(max)).await {
            Ok(Ok((Kind::Snapshot, snapshot))) => Ok(snapshot),
            Ok(Ok((Kind::Message, _))) => Err(Lost::Nonsense("no snapshot came".to_owned())),
            Ok(Err(lost)) => Err(lost),
            Err(_) => Err(Lost::Nonsense("no snapshot came in time".to_owned())),
        }
    }
}
