//! One open connection to a tool server: its handshake, its requests, and what it says meanwhile.

use std::collections::HashMap;
use std::sync::Arc;

use netra_context::Runtime;
use netra_context::runtime::TaskKind;
use rmcp::ClientHandler;
use rmcp::model::{
    ClientCapabilities, ClientConfig, ClientRequest, Implementation, ProgressNotificationParam,
    ProgressToken, ProtocolVersion, ServerPeerInfo, ServerResult, SubscriptionFilter,
};
use rmcp::service::{
    ClientInitializeError, ClientLifecycleMode, ClientServiceExt as _, NotificationContext,
    PeerRequestOptions, RequestHandle, RoleClient, RunningService, ServiceError,
};
use rmcp::transport::IntoTransport;
use tokio::sync::{Mutex, Notify, watch};

use crate::config::Era;

/// The newest progress of a call: a fraction where the server told a total, and words.
pub(crate) type Progress = (Option<f64>, Option<String>);
/// Who is told of progress. Only the newest is of interest, so a server cannot fill anything.
pub(crate) type ProgressTo = watch::Sender<Option<Progress>>;

/// An open connection. Dropping it closes it.
pub(crate) struct Connection {
    service: RunningService<RoleClient, Ear>,
    ear: Ear,
    runtime: Runtime,
}

impl Connection {
    /// Opens a connection and agrees on a version of the protocol. `of_server` is told when the
    /// server says that its tools are others now, as is whoever waits for [`Connection::changed`].
    pub(crate) async fn open<T, E, A>(
        runtime: &Runtime,
        transport: T,
        era: Era,
        of_server: Arc<Notify>,
    ) -> Result<Self, ClientInitializeError>
    where
        T: IntoTransport<RoleClient, E, A>,
        E: std::error::Error + Send + Sync + 'static,
    {
        let ear = Ear {
            progress: Arc::default(),
            changed: Changed {
                here: Arc::default(),
                of_server,
            },
        };
        let service = ear
            .clone()
            .serve_with_lifecycle(transport, lifecycle(era))
            .await?;
        Ok(Self {
            service,
            ear,
            runtime: runtime.clone(),
        })
    }

    /// Has the server of the newer era tell when its tools are others; one of the older era does so by itself. As long as
    /// the connection is open.
    pub(crate) fn listen(&self) {
        let is_newer = |info: &ServerPeerInfo| {
            let tools = info.capabilities.tools.as_ref();
            info.protocol_version >= ProtocolVersion::V_2026_07_28
                && tools.is_some_and(|tools| tools.list_changed == Some(true))
        };
        if !self.server().as_deref().is_some_and(is_newer) {
            return;
        }
        let (peer, changed) = (self.service.peer().clone(), self.ear.changed.clone());
        self.runtime.spawn(TaskKind::Part, async move {
            let wanted = SubscriptionFilter::builder().tools_list_changed().build();
            // A server that does not keep its word here is used as it is.
            let Ok(mut told) = peer.listen(wanted).await else {
                return;
            };
            while let Ok(Some(_)) = told.next().await {
                changed.tell();
            }
        });
    }

    /// Told when the server says on this connection that its tools are others now.
    pub(crate) fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.ear.changed.here)
    }

    /// What the server said of itself.
    pub(crate) fn server(&self) -> Option<Arc<ServerPeerInfo>> {
        self.service.peer_info()
    }

    /// Whether nothing can be asked any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.service.is_closed() || self.service.is_transport_closed()
    }

    /// Asks, and waits for the answer. Dropped before it has come, it tells the server that nobody
    /// waits any more.
    pub(crate) async fn ask(
        &self,
        request: ClientRequest,
        progress: Option<ProgressTo>,
    ) -> Result<ServerResult, ServiceError> {
        let mut open = Open {
            handle: None,
            ear: self.ear.clone(),
            runtime: self.runtime.clone(),
        };
        let handle = {
            // Progress that is faster than this waits here until its call is known.
            let mut listening = self.ear.progress.lock().await;
            let options = PeerRequestOptions::no_options();
            let handle = self
                .service
                .send_cancellable_request(request, options)
                .await?;
            if let Some(progress) = progress {
                listening.insert(handle.progress_token.clone(), progress);
            }
            open.handle.insert(handle)
        };
        let answer = (&mut handle.rx).await;
        open.answered().await;
        answer.map_err(|_| ServiceError::TransportClosed)?
    }

    /// Closes the connection and waits until that is done.
    pub(crate) async fn close(mut self) {
        // How it ended is of no matter any more.
        self.service.close().await.ok();
    }
}

fn lifecycle(era: Era) -> ClientLifecycleMode {
    let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
    match era {
        Era::Newest => ClientLifecycleMode::Auto {
            preferred_versions,
            legacy_version: Some(ProtocolVersion::V_2025_11_25),
        },
        Era::Sessions => ClientLifecycleMode::Initialize,
        Era::Stateless => ClientLifecycleMode::Discover { preferred_versions },
    }
}

/// A request that has not been answered.
struct Open {
    handle: Option<RequestHandle<RoleClient>>,
    ear: Ear,
    runtime: Runtime,
}

impl Open {
    async fn answered(mut self) {
        if let Some(handle) = self.handle.take() {
            let mut listening = self.ear.progress.lock().await;
            listening.remove(&handle.progress_token);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(handle) = self.handle.take() else {
            return;
        };
        let ear = self.ear.clone();
        self.runtime.spawn(TaskKind::Part, async move {
            ear.progress.lock().await.remove(&handle.progress_token);
            // A connection that is gone needs no telling.
            let why = Some("nobody waits for the answer any more".to_owned());
            handle.cancel(why).await.ok();
        });
    }
}

/// Hears what the server says by itself. It is offered nothing: no sampling, no questions to the
/// user, no folders.
#[derive(Clone)]
struct Ear {
    progress: Arc<Mutex<HashMap<ProgressToken, ProgressTo>>>,
    changed: Changed,
}

/// Who is told that the server's tools are others now.
#[derive(Clone)]
struct Changed {
    here: Arc<Notify>,
    of_server: Arc<Notify>,
}

impl Changed {
    fn tell(&self) {
        self.here.notify_one();
        self.of_server.notify_one();
    }
}

impl ClientHandler for Ear {
    fn get_info(&self) -> ClientConfig {
        let netra = Implementation::new("netra", env!("CARGO_PKG_VERSION"));
        ClientConfig::new(ClientCapabilities::default(), netra)
            .with_protocol_version(ProtocolVersion::V_2025_11_25)
    }

    async fn on_progress(
        &self,
        told: ProgressNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        let listening = self.progress.lock().await;
        if let Some(to) = listening.get(&told.progress_token) {
            let total = told.total.filter(|total| *total > 0.0);
            let fraction = total.map(|total| told.progress / total);
            to.send_replace(Some((fraction, told.message)));
        }
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changed.tell();
    }
}
