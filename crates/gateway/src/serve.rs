//! Accepting connections until the server stops, and keeping each within its bounds.
//!
//! HTTP/1.1 only: TLS ends in front of the server, and no browser speaks HTTP/2 without it.

pub(crate) mod pace;
pub(crate) mod places;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use netra_context::runtime::TaskKind;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tower::Service as _;

use self::pace::{PacedBody, PacedStream};
use self::places::{Place, Places};
use crate::config::Config;
use crate::router::router;
use crate::state::Parts;

/// What the kernel may hold of an answer that the client has no room for, in bytes.
const UNSENT: u32 = 128 * 1024;
/// How long a connection may be quiet after an answer.
const IDLE: Duration = Duration::from_secs(75);
/// What the system may need to be able to accept again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// What every connection is served with.
struct Served {
    app: Router,
    first_head: Duration,
    body_stall: Duration,
    write_stall: Duration,
}

/// Serves the edge on the listener until the runtime's shutdown fires and the last request has
/// been answered. Streams, sockets and waits end when it fires.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(listener: TcpListener, parts: Parts) -> std::io::Result<()> {
    let runtime = parts.runtime.clone();
    let places = Places::new(parts.config.max_connections, runtime.shutdown().clone());
    let served = Arc::new(Served::new(&parts.config.clone(), router(parts)));
    loop {
        let accepted = tokio::select! {
            () = runtime.shutdown().cancelled() => break,
            accepted = accept(&listener) => accepted,
        };
        let (stream, address) = accepted;
        let place = tokio::select! {
            () = runtime.shutdown().cancelled() => break,
            place = places.take() => place,
        };
        runtime.spawn(
            TaskKind::Socket,
            served.clone().attend(stream, address, place),
        );
    }
    drop(listener);
    places.all_left().await;
    Ok(())
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // The client went away before it was its turn.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

impl Served {
    fn new(config: &Config, app: Router) -> Self {
        Self {
            app,
            first_head: config.header_timeout,
            body_stall: config.body_stall,
            // A socket gives up earlier and says why; this is for answers, which cannot.
            write_stall: config.write_stall.saturating_mul(2),
        }
    }

    /// Answers the requests of one connection until it ends.
    async fn attend(self: Arc<Self>, stream: TcpStream, address: SocketAddr, place: Place) {
        // Answers are small and written whole: waiting to fill packets only adds delay.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("a connection keeps its delay: {error}");
        }
        // The kernel says soon that a slow client takes something, and holds little for it.
        if let Err(error) = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT) {
            tracing::debug!("a connection holds as much as it likes: {error}");
        }
        let place = Arc::new(place);
        let service = service_fn(|request| self.answer(request, address, &place));
        let stream = PacedStream::new(stream, self.write_stall, place.clone());
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(IDLE);
        let mut connection = pin!(
            builder
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
        );
        let mut told = pin!(place.told_to_go());
        let mut first_head = pin!(tokio::time::sleep(self.first_head));
        let (mut is_told, mut is_late) = (false, false);
        loop {
            tokio::select! {
                biased;
                _ = connection.as_mut() => return,
                () = &mut told, if !is_told => {
                    // Where nothing was asked there is nothing to answer.
                    if place.is_evicted() || !place.has_asked() {
                        return;
                    }
                    is_told = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = &mut first_head, if !is_late => {
                    if !place.has_asked() {
                        return;
                    }
                    is_late = true;
                }
            }
        }
    }

    async fn answer(
        &self,
        request: hyper::Request<Incoming>,
        address: SocketAddr,
        place: &Arc<Place>,
    ) -> Result<Response, Infallible> {
        place.ask();
        let mut request = request.map(|body| Body::new(PacedBody::new(body, self.body_stall)));
        let extensions = request.extensions_mut();
        extensions.insert(ConnectInfo(address));
        extensions.insert(place.clone());
        // A router is always ready.
        self.app.clone().call(request).await
    }
}
