//! Accepting connections until the server stops.

use std::net::SocketAddr;

use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;

use crate::router::router;
use crate::state::Parts;

/// Serves the edge on the listener until the runtime's shutdown fires and the last request has
/// been answered. Streams, sockets and waits end when it fires.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(listener: TcpListener, parts: Parts) -> std::io::Result<()> {
    let shutdown = parts.runtime.shutdown().clone();
    let app = router(parts).into_make_service_with_connect_info::<SocketAddr>();
    // Answers are small and written whole: waiting to fill packets only adds delay.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("a connection keeps its delay: {error}");
        }
    });
    axum::serve(listener, app)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}
