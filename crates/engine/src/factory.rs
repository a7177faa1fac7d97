//! The factory of engines: it admits a run, which can fail, and makes its engine, which cannot.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use netra_context::{Runtime, UserExecutionContext};
use netra_endpoint::Endpoints;
use netra_events::WebSocketBridgeFactory;
use netra_memory::{Account, Scope};
use netra_model::Models;
use netra_protocol::agent::Agent;
use netra_protocol::run::Run;
use netra_protocol::usage::SlotUsage;
use netra_store::{StopWish, Store, Writable};
use netra_tools::ToolExecutorFactory;
use netra_worker::ScriptPool;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::admission::{Admission, Permit};
use crate::agents::{Agents, Change};
use crate::budget::{Budget, Warned};
use crate::closing;
use crate::custody::Custody;
use crate::ending::{self, Ending};
use crate::engine::{IsolatedExecutionEngine, Parts, usage_of_run};
use crate::error::Error;
use crate::execution::Execution;
use crate::isolation::Engines;
use crate::live::{LiveRuns, StopReason, Workers};
use crate::pressure::{NodeMemory, Pressure};
use crate::request::Commission;
use crate::spans;
use crate::turns::Turns;
use crate::usage::Counters;
use crate::version;
use crate::waiting::Waiting;

/// How long runs that were told to stop may take to write their ends.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// How long a worker may take for a script of one line.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// Settings of the engine layer.
#[derive(Debug, Clone)]
pub struct Config {
    /// The most engines that this node has at once.
    pub engines: usize,
    /// How much memory the node may use.
    pub node_memory: NodeMemory,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            engines: 1_000,
            node_memory: NodeMemory::default(),
        }
    }
}

/// What all engines share; immutable after start.
pub struct Infra {
    /// Clock, randomness, tasks.
    pub runtime: Runtime,
    /// State and log.
    pub store: Store,
    /// Makes emitters.
    pub bridge: WebSocketBridgeFactory,
    /// Makes dispatchers.
    pub tools: ToolExecutorFactory,
    /// Language models.
    pub models: Arc<Models>,
    /// What there is to run.
    pub agents: Arc<Agents>,
    /// Workers for scripts.
    pub scripts: ScriptPool,
    /// Connections to agents behind endpoints.
    pub endpoints: Endpoints,
    /// Settings.
    pub config: Config,
}

impl Infra {
    /// For which of these model providers the user has a key of their own.
    pub(crate) async fn own_keys(
        &self,
        ctx: &UserExecutionContext,
        wanted: impl IntoIterator<Item = &str> + Send,
    ) -> Result<BTreeSet<String>, netra_store::Error> {
        let mut own_keys = BTreeSet::new();
        for provider in wanted.into_iter().collect::<Vec<_>>() {
            if self.models.has_own_key(ctx, provider).await? {
                own_keys.insert(provider.to_owned());
            }
        }
        Ok(own_keys)
    }
}

pub(crate) struct Shared {
    pub(crate) infra: Arc<Infra>,
    pub(crate) admission: Admission,
    pub(crate) runs: LiveRuns,
    pub(crate) turns: Turns,
    pub(crate) waiting: Waiting,
    pub(crate) pressure: Pressure,
    pub(crate) engines: Engines,
    draining: AtomicBool,
}

/// Admits runs and makes their engines. Cheap to clone.
#[derive(Clone)]
pub struct ExecutionEngineFactory(pub(crate) Arc<Shared>);

impl ExecutionEngineFactory {
    /// Over this infrastructure.
    pub fn new(infra: Infra) -> Self {
        Self(Arc::new(Shared {
            admission: Admission::new(infra.config.engines),
            runs: LiveRuns::new(&infra.runtime),
            infra: Arc::new(infra),
            turns: Turns::default(),
            waiting: Waiting::default(),
            pressure: Pressure::default(),
            engines: Engines::default(),
            draining: AtomicBool::new(false),
        }))
    }

    /// Tells a run to stop. Its end is written by its engine, within a moment; that of a run that
    /// waits is written when this returns.
    ///
    /// # Errors
    /// `RunEnded` when it has ended.
    pub async fn cancel(
        &self,
        ctx: &UserExecutionContext,
        run: &Writable<Run>,
    ) -> Result<(), Error> {
        // An engine that has written the end is listed for a moment more.
        if run.status.is_terminal() {
            return Err(Error::RunEnded);
        }
        if self.0.runs.tell(run.id, StopReason::Cancelled) {
            return Ok(());
        }
        // Whoever takes the place of a run that waits decides how it goes on.
        let place = self.0.waiting.take(run.id);
        let store = &self.0.infra.store;
        if place.is_none() && store.run_stop(ctx, run, StopWish::Cancelled).await? {
            return Ok(());
        }
        let now = store.run(ctx, run.id).for_write().await?;
        if now.status.is_terminal() {
            return Err(Error::RunEnded);
        }
        // No engine has it: it waits, or its end could not be written when it ended.
        if let Some(ending) = StopReason::Cancelled.ending() {
            self.end_abandoned(ctx, &now, ending).await?;
        }
        drop(place);
        Ok(())
    }

    /// Makes the engine of a run. It cannot fail, and nothing begins before it is driven.
    pub(crate) fn create(
        &self,
        ctx: UserExecutionContext,
        commission: Commission,
        permit: Permit,
    ) -> IsolatedExecutionEngine {
        let infra = Arc::clone(&self.0.infra);
        let limits = Arc::new(ctx.limits().cloned().unwrap_or_default());
        let user = commission.listed.live.user_id;
        let user_account = infra.runtime.account_of(user, limits.memory_mib);
        let account = Arc::new(Account::execution(&user_account));
        let _entered = account.scope().enter();
        let emitter = Arc::new(infra.bridge.create_emitter(&commission.run));
        let files = commission.files.clone();
        let journal = commission.journal.clone();
        let dispatcher = infra
            .tools
            .create(&ctx, Arc::clone(&emitter), files.clone(), &journal);
        let workers = Workers::default();
        for meter in dispatcher.scope().meters() {
            workers.add(meter);
        }
        let execution = Execution {
            trace: commission.trace,
            infra,
            emitter,
            dispatcher,
            files,
            counters: Counters::of(&journal),
            budget: Budget::of(&limits, &commission.agent),
            warned: Warned::default(),
            limits,
            custody: Custody::of(&journal, &commission.agent),
            journal,
            unfinished: Mutex::default(),
            workers,
            live: Arc::clone(&commission.listed.live),
        };
        let runs = self.0.runs.clone();
        IsolatedExecutionEngine::new(Parts {
            execution,
            ctx,
            commission,
            account,
            user_account,
            runs,
            active: self.0.engines.begin(),
            permit,
        })
    }

    /// Stops taking runs, gives those that execute `grace` to end by themselves, and lets the
    /// others go: they go on at the next start.
    pub async fn drain(&self, grace: Duration) {
        self.0.draining.store(true, Ordering::SeqCst);
        let runs = &self.0.runs;
        if tokio::time::timeout(grace, runs.gone()).await.is_ok() {
            return;
        }
        let end = Instant::now() + STOP_GRACE;
        loop {
            // Again and again: a run may have been on its way when draining began.
            runs.stop_all(StopReason::Drained);
            let turn = Duration::from_millis(100);
            if tokio::time::timeout(turn, runs.gone()).await.is_ok() {
                return;
            }
            if Instant::now() >= end {
                tracing::error!(runs = runs.len(), "runs did not end in time");
                return;
            }
        }
    }

    /// Whether new runs are refused because the server is about to stop.
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::SeqCst)
    }

    /// Reads the files of the agents again, for runs that begin from now on; those that have begun go on with
    /// the versions that they have. As `for_background(Recovery)` only.
    ///
    /// # Errors
    /// When the new versions cannot be kept; then nothing changes.
    pub async fn reload_agents(
        &self,
        ctx: &UserExecutionContext,
    ) -> Result<Vec<Change>, netra_store::Error> {
        let infra = &self.0.infra;
        let (agents, models) = (Arc::clone(&infra.agents), Arc::clone(&infra.models));
        let registry = Arc::clone(infra.tools.registry());
        let read = move || agents.read_again(&registry, &models);
        let reading = infra.runtime.spawn_blocking(read).await;
        let reading =
            reading.map_err(|error| netra_store::Error::Unavailable(error.to_string()))?;
        let versions = version::of_all(reading.agents());
        infra.store.agent_versions_keep(ctx, versions).await?;
        Ok(infra.agents.put(reading))
    }

    /// The agents.
    pub fn agents(&self) -> &Agents {
        &self.0.infra.agents
    }

    /// The language models.
    pub fn models(&self) -> &Models {
        &self.0.infra.models
    }

    /// Lets a worker read a script of one line, as a script of this user's would be read.
    ///
    /// # Errors
    /// In words.
    pub async fn probe_workers(&self, ctx: &UserExecutionContext) -> Result<(), String> {
        let scripts = &self.infra().scripts;
        let probe = scripts.check(ctx, "probe.py".into(), "None".into());
        match tokio::time::timeout(PROBE_LIMIT, probe).await {
            Ok(probed) => probed.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no worker has answered within {PROBE_LIMIT:?}")),
        }
    }

    /// The agents that this user may start, as they are for this user.
    ///
    /// # Errors
    /// `Store` where the user's secrets cannot be looked at.
    pub async fn agents_for(&self, ctx: &UserExecutionContext) -> Result<Vec<Agent>, Error> {
        let infra = self.infra();
        let wanted = infra.agents.wanted_keys();
        let own_keys = infra
            .own_keys(ctx, wanted.iter().map(String::as_str))
            .await?;
        Ok(infra.agents.list_for(ctx, &own_keys))
    }

    /// What the user has in use.
    pub fn slots(&self, ctx: &UserExecutionContext) -> SlotUsage {
        let none = SlotUsage {
            running: 0,
            queued: 0,
            allowed: 0,
        };
        ctx.principal().map_or(none, |principal| {
            self.0
                .admission
                .usage(principal.user_id, principal.limits.concurrent_runs)
        })
    }

    /// What the user has in use, over all nodes.
    ///
    /// # Errors
    /// As the store's, where there are several.
    pub async fn slots_over_nodes(
        &self,
        ctx: &UserExecutionContext,
    ) -> Result<SlotUsage, netra_store::Error> {
        let here = self.slots(ctx);
        let anywhere = self.0.infra.store.slots_over_nodes(ctx).await?;
        Ok(match anywhere {
            Some((running, queued)) => SlotUsage {
                running,
                queued,
                ..here
            },
            None => here,
        })
    }

    /// How many runs execute and wait on this node.
    pub fn load(&self) -> (usize, usize) {
        self.0.admission.total()
    }

    pub(crate) fn infra(&self) -> &Infra {
        &self.0.infra
    }

    pub(crate) fn new_id<T>(&self, from_parts: impl FnOnce(u64, u128) -> T) -> T {
        self.0.infra.runtime.new_id(from_parts)
    }

    /// Ends a run that no engine has: closes what is open in its log and writes its end. Of a tool
    /// call that was begun nobody knows whether it did its work. It is the server's work: a user
    /// without memory left has ends too.
    pub(crate) async fn end_abandoned(
        &self,
        ctx: &UserExecutionContext,
        run: &Writable<Run>,
        ending: Ending,
    ) -> Result<(), netra_store::Error> {
        let infra = &self.0.infra;
        let emitter = infra.bridge.create_emitter(run);
        let trace = match infra.runtime.tracer() {
            Some(_) => infra.store.run_trace(ctx, run.as_readable()).await?,
            None => None,
        };
        let read = closing::read_open(ctx, &infra.store, &emitter);
        let open = Scope::system().wrap(read).await?;
        let last = open.close(&emitter, infra.runtime.now(), &closing::outcome_unknown());
        let usage = usage_of_run(ctx, &emitter, run.usage.clone());
        spans::agents_ended(ctx, trace, &last, &ending);
        ending::commit(ctx, (&emitter, trace), ending, last, usage).await;
        Ok(())
    }
}
