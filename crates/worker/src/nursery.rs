//! Where workers are started: a thread that stands back for the server, so that what it starts does too.

use std::io;
use std::sync::{Arc, Weak};
use std::thread;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::confine::stand_back;
use crate::limits::Config;
use crate::process::Process;

/// How many orders may lie on the thread's table. Beyond that whoever orders waits.
const ORDERS: usize = 64;
/// How many numbers of processes are kept before those that have ended are forgotten.
const FORGET_FROM: usize = 256;

/// Starts workers of one kind, and keeps some ready.
///
/// A process begins with the priority of the thread that starts it. Were that a thread of the server's own, each new
/// worker would be its equal until it had come far enough to step back by itself.
#[derive(Debug)]
pub(crate) struct Nursery {
    config: Config,
    argument: &'static str,
    ready: Arc<Mutex<Vec<Process>>>,
    started: Started,
    /// The way to the thread, which is started with the first order and ends when this is dropped.
    orders: Mutex<Option<mpsc::Sender<Order>>>,
}

/// A worker for whoever waits for it; or none, and a look whether enough are ready.
struct Order {
    runtime: Handle,
    reply: Option<oneshot::Sender<io::Result<Process>>>,
}

/// What the thread has.
struct Bench {
    config: Config,
    argument: &'static str,
    ready: Weak<Mutex<Vec<Process>>>,
    started: Started,
    orders: mpsc::Receiver<Order>,
}

/// The numbers of the processes that were started, and may have ended since.
#[derive(Clone, Debug, Default)]
struct Started(Arc<Mutex<Vec<u32>>>);

impl Started {
    fn add(&self, id: u32) {
        let mut ids = self.0.lock();
        if ids.len() >= FORGET_FROM {
            ids.retain(|id| lives(*id));
        }
        ids.push(id);
    }

    fn living(&self) -> usize {
        let mut ids = self.0.lock();
        ids.retain(|id| lives(*id));
        ids.len()
    }
}

/// Whether a child of this process lives under this number. One that has ended and was not collected does not.
fn lives(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let mut fields = stat
        .rsplit_once(") ")
        .map_or("", |(_, rest)| rest)
        .split(' ');
    let (state, parent) = (fields.next(), fields.next());
    let own = std::process::id().to_string();
    parent == Some(own.as_str()) && !matches!(state, Some("Z" | "X"))
}

impl Nursery {
    pub(crate) fn new(config: Config, argument: &'static str) -> Nursery {
        Nursery {
            config,
            argument,
            ready: Arc::default(),
            started: Started::default(),
            orders: Mutex::new(None),
        }
    }

    /// One that is ready, or else a new one.
    pub(crate) async fn worker(&self) -> io::Result<Process> {
        let ready = std::iter::from_fn(|| self.ready.lock().pop())
            .find_map(|mut process| process.is_alive().then_some(process));
        if let Some(process) = ready {
            self.fill_up();
            return Ok(process);
        }
        let gone = || io::Error::other("the thread that starts workers is gone");
        let (reply, started) = oneshot::channel();
        let order = Order {
            runtime: Handle::current(),
            reply: Some(reply),
        };
        self.thread()?.send(order).await.map_err(|_| gone())?;
        started.await.map_err(|_| gone())?
    }

    /// Lets workers be started until as many are ready as configured. Must be called within a tokio runtime.
    pub(crate) fn fill_up(&self) {
        let order = Order {
            runtime: Handle::current(),
            reply: None,
        };
        match self.thread() {
            // A full table is looked at until it is empty, and then at what is ready.
            Ok(thread) => drop(thread.try_send(order)),
            Err(error) => tracing::warn!(%error, "no worker can be started in advance"),
        }
    }

    /// How many workers are ready.
    pub(crate) fn ready(&self) -> usize {
        self.ready
            .lock()
            .iter_mut()
            .filter_map(|process| process.is_alive().then_some(()))
            .count()
    }

    /// How many of the processes that were started the system has still, whoever has them.
    pub(crate) fn living(&self) -> usize {
        self.started.living()
    }

    fn thread(&self) -> io::Result<mpsc::Sender<Order>> {
        let mut orders = self.orders.lock();
        if let Some(orders) = orders.as_ref().filter(|orders| !orders.is_closed()) {
            return Ok(orders.clone());
        }
        let (sender, receiver) = mpsc::channel(ORDERS);
        let bench = Bench {
            config: self.config.clone(),
            argument: self.argument,
            ready: Arc::downgrade(&self.ready),
            started: self.started.clone(),
            orders: receiver,
        };
        thread::Builder::new()
            .name("workers".to_owned())
            .spawn(move || bench.work())?;
        *orders = Some(sender.clone());
        Ok(sender)
    }
}

impl Bench {
    fn work(mut self) {
        if let Err(error) = stand_back() {
            tracing::warn!(%error, "workers do not stand back for the server");
        }
        // Who waits for a worker comes before those that are to be ready.
        while let Some(order) = self.orders.blocking_recv() {
            let runtime = self.serve(order);
            while let Some(ready) = self.ready.upgrade()
                && self.orders.is_empty()
                && ready.lock().len() < self.config.warm
            {
                match self.start(&runtime) {
                    Ok(process) => ready.lock().push(process),
                    Err(error) => {
                        tracing::warn!(%error, "a worker could not be started in advance");
                        break;
                    }
                }
            }
        }
    }

    fn serve(&self, order: Order) -> Handle {
        if let Some(reply) = order.reply {
            // Whoever has gone meanwhile gets none, and it ends here.
            reply.send(self.start(&order.runtime)).ok();
        }
        order.runtime
    }

    fn start(&self, runtime: &Handle) -> io::Result<Process> {
        let _entered = runtime.enter();
        let process = Process::spawn(&self.config.program, self.argument)?;
        if let Some(id) = process.id() {
            self.started.add(id);
        }
        Ok(process)
    }
}
