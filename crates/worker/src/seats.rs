//! Seats: how many workers may work at once, who has one, and who must give it up while it only waits.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use netra_memory::Scope;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::error::Error;
use crate::frame::Kind;
use crate::limits::Config;
use crate::meter::Meter;
use crate::process::{Lost, Process};
use crate::wire::ToScript;

/// How long a script may wait with its worker before others may take it. Most answers come sooner, and then taking
/// the worker away would only cost.
const PATIENCE: Duration = Duration::from_millis(20);
/// How long a waiting worker may take to write its snapshot.
const PARKING_TIME: Duration = Duration::from_secs(10);

/// A worker at work, and the right to have it at work.
#[derive(Debug)]
pub(crate) struct Seated {
    pub(crate) process: Box<Process>,
    permit: OwnedSemaphorePermit,
}

/// All workers of one kind.
#[derive(Debug)]
pub(crate) struct Seats {
    config: Config,
    argument: &'static str,
    permits: Arc<Semaphore>,
    warm: Mutex<Vec<Process>>,
    /// Scripts that wait for an answer and still have their worker, the longest waiting first.
    idle: Mutex<BTreeMap<u64, (Instant, Weak<Parking>)>>,
    next_id: AtomicU64,
    /// Told when a script begins to wait with its worker.
    became_idle: Notify,
}

/// The script that waits, as far as its seat must know it.
#[derive(Debug)]
pub(crate) struct Owner {
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
            permits: Arc::new(Semaphore::new(config.workers.max(1))),
            config,
            argument,
            warm: Mutex::new(Vec::new()),
            idle: Mutex::new(BTreeMap::new()),
            next_id: AtomicU64::new(0),
            became_idle: Notify::new(),
        }
    }

    /// Starts idle workers until as many are warm as configured.
    pub(crate) fn warm_up(&self) {
        // They outlive the request that happens to start them.
        let _system = Scope::system().enter();
        while self.warm.lock().len() < self.config.warm {
            match self.spawn() {
                Ok(process) => self.warm.lock().push(process),
                Err(error) => {
                    tracing::warn!(%error, "a worker could not be started in advance");
                    return;
                }
            }
        }
    }

    /// How many idle workers are ready.
    pub(crate) fn warm_workers(&self) -> usize {
        self.warm
            .lock()
            .iter_mut()
            .filter_map(|process| process.is_alive().then_some(()))
            .count()
    }

    fn spawn(&self) -> io::Result<Process> {
        Process::spawn(&self.config.program, self.argument)
    }

    /// A fresh worker, as soon as one may work.
    pub(crate) async fn sit(&self) -> Result<Seated, Error> {
        let permit = self.permit().await;
        self.seat(permit)
    }

    fn seat(&self, permit: OwnedSemaphorePermit) -> Result<Seated, Error> {
        let warm = std::iter::from_fn(|| self.warm.lock().pop())
            .find_map(|mut process| process.is_alive().then_some(process));
        let process = match warm {
            Some(process) => process,
            None => self.spawn().map_err(Error::Start)?,
        };
        self.warm_up();
        let process = Box::new(process);
        Ok(Seated { process, permit })
    }

    /// Lets a script wait in its seat; whoever is short of workers may take it from there.
    pub(crate) fn wait(&self, seated: Seated, owner: Owner) -> Arc<Parking> {
        let Owner {
            scope,
            meter,
            max_snapshot,
        } = owner;
        let parking = Arc::new(Parking {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            scope,
            max_snapshot,
            meter,
            place: tokio::sync::Mutex::new(Place::Seated(seated)),
        });
        self.offer(&parking);
        parking
    }

    fn offer(&self, parking: &Arc<Parking>) {
        let entry = (Instant::now(), Arc::downgrade(parking));
        self.idle.lock().insert(parking.id, entry);
        self.became_idle.notify_one();
    }

    /// Gives a script that waited its worker back, or another one once one may work.
    pub(crate) async fn regain(&self, parking: &Parking) -> Result<Regained, Error> {
        self.idle.lock().remove(&parking.id);
        let mut place = parking.place.lock().await;
        // The place is changed only after the last await, so that nothing is lost if this future is dropped.
        let permit = match *place {
            Place::Snapshot(_) => Some(self.permit().await),
            Place::Seated(_) | Place::Lost(_) | Place::Left => None,
        };
        match (std::mem::replace(&mut *place, Place::Left), permit) {
            (Place::Seated(seated), _) => Ok(Regained::Same(seated)),
            (Place::Snapshot(snapshot), Some(permit)) => {
                Ok(Regained::Fresh(self.seat(permit)?, snapshot))
            }
            (Place::Lost(lost), _) => Ok(Regained::Lost(lost)),
            (Place::Snapshot(_) | Place::Left, _) => Err(Error::Misuse("it was resumed twice")),
        }
    }

    /// The right to have one worker at work: a free one, or that of a script which only waits.
    async fn permit(&self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
                return permit;
            }
            let longest = match self.longest_idle() {
                Some(Ok(parking)) => {
                    if let Some(permit) = self.take_from(&parking).await {
                        return permit;
                    }
                    continue;
                }
                Some(Err(ripe)) => Some(ripe),
                None => None,
            };
            tokio::select! {
                permit = Arc::clone(&self.permits).acquire_owned() => {
                    if let Ok(permit) = permit {
                        return permit;
                    }
                }
                () = self.became_idle.notified() => {}
                () = ripens(longest) => {}
            }
        }
    }

    /// Takes the script that has waited longest off the list, or says when its worker may be taken.
    fn longest_idle(&self) -> Option<Result<Weak<Parking>, Instant>> {
        let mut idle = self.idle.lock();
        let entry = idle.first_entry()?;
        let ripe = entry.get().0 + PATIENCE;
        if ripe <= Instant::now() {
            Some(Ok(entry.remove().1))
        } else {
            Some(Err(ripe))
        }
    }

    /// Has the worker of a waiting script write its snapshot, ends it and takes over its permit.
    async fn take_from(&self, parking: &Weak<Parking>) -> Option<OwnedSemaphorePermit> {
        let parking = parking.upgrade()?;
        // Locked means that its script is just going on.
        let mut place = parking.place.try_lock().ok()?;
        let Place::Seated(seated) = &mut *place else {
            return None;
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
        let next = match outcome {
            Ok(snapshot) => Place::Snapshot(snapshot),
            Err(lost) => Place::Lost(lost),
        };
        match std::mem::replace(&mut *place, next) {
            Place::Seated(seated) => Some(seated.permit),
            Place::Snapshot(_) | Place::Lost(_) | Place::Left => None,
        }
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
