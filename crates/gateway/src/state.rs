//! What all requests share: the parts of the server below the edge, and the edge's own counts.

use std::ops::Deref;
use std::sync::Arc;

use netra_context::runtime::TaskKind;
use netra_context::{Lag, Runtime};
use netra_engine::ExecutionEngineFactory;
use netra_events::WebSocketBridgeFactory;
use netra_protocol::admin::MetricsHistory;
use netra_protocol::id::UserId;
use netra_store::{Revoked, Secrets, Store};
use netra_tools::{Registry, ToolServers};
use tokio::sync::broadcast::error::RecvError;

use crate::auth::keys::Keys;
use crate::auth::passwords::Passwords;
use crate::auth::verifier::Verifier;
use crate::config::Config;
use crate::limit::Windows;
use crate::overload::Returns;
use crate::ws::connections::Connections;

/// Renders the metrics, as JSON where asked, else as Prometheus text.
pub type Metrics = Arc<dyn Fn(bool) -> String + Send + Sync>;

/// Tells how the metrics were.
pub type History = Arc<dyn Fn() -> MetricsHistory + Send + Sync>;

/// What the edge stands on.
pub struct Parts {
    /// Clock, randomness, tasks; its shutdown ends streams and sockets.
    pub runtime: Runtime,
    /// State.
    pub store: Store,
    /// How late the process is.
    pub lag: Lag,
    /// Events.
    pub bridge: WebSocketBridgeFactory,
    /// Runs and agents.
    pub engine: ExecutionEngineFactory,
    /// Tools, to be listed.
    pub tools: Arc<Registry>,
    /// What tools need on users' behalf.
    pub secrets: Secrets,
    /// Where some of them come from.
    pub tool_servers: Arc<dyn ToolServers>,
    /// The signing key.
    pub keys: Keys,
    /// The metrics of this process.
    pub metrics: Metrics,
    /// How they were in the last hour.
    pub history: History,
    /// Settings.
    pub config: Config,
}

/// What all requests share. Cheap to clone; `&self` only.
#[derive(Clone)]
pub(crate) struct Gateway(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) runtime: Runtime,
    pub(crate) store: Store,
    pub(crate) lag: Lag,
    pub(crate) bridge: WebSocketBridgeFactory,
    pub(crate) engine: ExecutionEngineFactory,
    pub(crate) tools: Arc<Registry>,
    pub(crate) secrets: Secrets,
    pub(crate) tool_servers: Arc<dyn ToolServers>,
    pub(crate) keys: Keys,
    pub(crate) metrics: Metrics,
    pub(crate) history: History,
    pub(crate) config: Config,
    pub(crate) verifier: Verifier,
    pub(crate) passwords: Passwords,
    /// Sign-ins, by hash of account and address.
    pub(crate) logins: Windows<[u8; 32]>,
    pub(crate) requests: Windows<UserId>,
    /// Requests without credentials, by address.
    pub(crate) strangers: Windows<u128>,
    pub(crate) connections: Connections,
    /// When those come back who were refused because everybody waits.
    pub(crate) returns: Returns,
}

impl Gateway {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            runtime,
            store,
            lag,
            bridge,
            engine,
            tools,
            secrets,
            tool_servers,
            keys,
            metrics,
            history,
            config,
        } = parts;
        let verifier = Verifier::new(
            runtime.clone(),
            store.clone(),
            keys.clone(),
            config.issuer.clone(),
            config.recheck,
        );
        let gateway = Self(Arc::new(Inner {
            passwords: Passwords::new(runtime.clone(), config.password_checks),
            logins: Windows::new(),
            requests: Windows::new(),
            strangers: Windows::new(),
            returns: Returns::new(),
            connections: Connections::new(
                config
                    .max_sockets
                    .min(config.max_connections.div_ceil(4) * 3),
            ),
            runtime,
            store,
            lag,
            bridge,
            engine,
            tools,
            secrets,
            tool_servers,
            keys,
            metrics,
            history,
            config,
            verifier,
        }));
        gateway.follow_other_nodes();
        gateway
    }

    /// Forgets what other nodes have revoked, as long as the server runs.
    fn follow_other_nodes(&self) {
        if !self.store.is_shared() {
            return;
        }
        let (gateway, mut revoked) = (self.clone(), self.store.revoked());
        let shutdown = self.runtime.shutdown().clone();
        self.runtime.spawn(TaskKind::Sweep, async move {
            while let Some(revoked) = shutdown.run_until_cancelled(revoked.recv()).await {
                match revoked {
                    Ok(revoked) => gateway.verifier.revoke(revoked),
                    Err(RecvError::Lagged(_)) => gateway.verifier.revoke(Revoked::Everything),
                    Err(RecvError::Closed) => return,
                }
            }
        });
    }
}

impl Deref for Gateway {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}
