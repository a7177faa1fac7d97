//! The factory of dispatchers: shared and immutable, it makes one dispatcher for each run.

use std::sync::Arc;

use netra_context::UserExecutionContext;
use netra_events::UserWebSocketEmitter;
use netra_protocol::file::File;
use netra_store::{Journal, Secrets, Store};
use netra_worker::{AnalysisPool, ScriptPool};

use crate::dispatcher::Dispatcher;
use crate::past::Earlier;
use crate::registry::Registry;
use crate::scope::{RunScope, analysis_limits};

/// What all dispatchers share.
#[derive(Clone)]
pub struct Infra {
    /// Every tool, and the policy.
    pub registry: Arc<Registry>,
    /// Where artifacts and files are.
    pub store: Store,
    /// What tools need on users' behalf.
    pub secrets: Secrets,
    /// Where analyses run.
    pub analyses: AnalysisPool,
    /// Where programs of agents run: the workers that script agents have, too.
    pub scripts: ScriptPool,
}

/// Makes a [`Dispatcher`] for each run. Cheap to clone.
#[derive(Clone)]
pub struct ToolExecutorFactory(Arc<Infra>);

impl ToolExecutorFactory {
    /// Over these tools.
    pub fn new(infra: Infra) -> Self {
        Self(Arc::new(infra))
    }

    /// Every tool of the server.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.0.registry
    }

    /// How many processes for analyses the system has now.
    pub fn living_workers(&self) -> usize {
        self.0.analyses.living_workers()
    }

    /// The dispatcher of one run whose earlier attempts have left this journal: it owns the run's worker
    /// processes, and its events go out by the run's emitter. Cannot fail; nothing is started before
    /// the first call needs it.
    pub fn create(
        &self,
        ctx: &UserExecutionContext,
        emitter: Arc<UserWebSocketEmitter>,
        files: Vec<File>,
        journal: &Journal,
    ) -> Dispatcher {
        let analysis = self.0.analyses.open(ctx, analysis_limits(ctx));
        let scripts = self.0.scripts.clone();
        let (store, secrets) = (self.0.store.clone(), self.0.secrets.clone());
        let scope = RunScope::new((store, secrets), emitter, files, analysis, scripts);
        let registry = Arc::clone(&self.0.registry);
        Dispatcher::new(registry, ctx.user_id(), scope, Earlier::of(journal))
    }
}
