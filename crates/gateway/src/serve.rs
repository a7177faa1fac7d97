//! Accepting connections until the server stops, and keeping each within its bounds.
//!
//! HTTP/2 where a client chooses it within TLS, because no browser speaks it without; else HTTP/1.1.

mod answers;
pub(crate) mod pace;
pub(crate) mod places;
pub(crate) mod transport;

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use netra_context::Runtime;
use netra_context::runtime::TaskKind;
use socket2::SockRef;
use tokio::net::TcpListener;
use tower::Service as _;

use self::answers::{PiecedBody, Streams};
use self::pace::{PacedBody, PacedStream};
use self::places::{Place, Places};
use self::transport::{Door, Knock};
use crate::address::Peer;
use crate::config::Config;
use crate::router::router;
use crate::state::Parts;

/// What the kernel may hold of an answer that the client has no room for, in bytes.
const UNSENT: u32 = 128 * 1024;
/// How long a connection may be quiet after an answer.
const IDLE: Duration = Duration::from_secs(75);
/// The largest head of a request, and what is read of a body at once, in bytes.
const MOST_HEAD: usize = 64 * 1024;
/// The same over HTTP/2, and the requests that one connection carries at once.
const MOST_HEAD_LIST: u32 = 64 * 1024;
const MOST_STREAMS: u32 = 100;
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
    serve_at(vec![Door::tcp(listener, None)], parts).await
}

/// The same at several doors.
///
/// # Errors
/// When one of them fails for good.
pub async fn serve_at(doors: Vec<Door>, parts: Parts) -> std::io::Result<()> {
    let runtime = parts.runtime.clone();
    let places = Places::new(parts.config.max_connections, runtime.shutdown().clone());
    let served = Arc::new(Served::new(&parts.config.clone(), router(parts)));
    let open = doors
        .iter()
        .map(|door| served.clone().stand_at(door, &places, &runtime));
    futures::future::join_all(open).await;
    drop(doors);
    places.all_left().await;
    Ok(())
}

async fn accept(door: &Door) -> (Knock, Peer) {
    loop {
        match door.accept().await {
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

    /// Lets connections in until the server stops.
    async fn stand_at(self: Arc<Self>, door: &Door, places: &Places, runtime: &Runtime) {
        loop {
            let (knock, peer) = tokio::select! {
                () = runtime.shutdown().cancelled() => return,
                accepted = accept(door) => accepted,
            };
            let place = tokio::select! {
                () = runtime.shutdown().cancelled() => return,
                place = places.take() => place,
            };
            let streams = Streams::new(runtime.clone(), self.write_stall);
            let attend = self.clone().attend(knock, peer, Arc::new(place), streams);
            runtime.spawn(TaskKind::Socket, attend);
        }
    }

    /// Answers the requests of one connection until it ends.
    async fn attend(
        self: Arc<Self>,
        knock: Knock,
        peer: Peer,
        place: Arc<Place>,
        streams: Streams,
    ) {
        if let Some(stream) = knock.tcp() {
            // Answers are small and written whole: waiting to fill packets only adds delay.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!("a connection keeps its delay: {error}");
            }
            // The kernel says soon that a slow client takes something, and holds little for it.
            if let Err(error) = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT) {
                tracing::debug!("a connection holds as much as it likes: {error}");
            }
        }
        let opened = tokio::select! {
            () = place.told_to_go() => return,
            opened = tokio::time::timeout(self.first_head, knock.open()) => opened,
        };
        let transport = match opened {
            Ok(Ok(transport)) => transport,
            Ok(Err(error)) => {
                tracing::debug!("a connection did not become private: {error}");
                return;
            }
            Err(_) => return,
        };
        let is_http2 = transport.is_http2();
        let stream = TokioIo::new(PacedStream::new(transport, self.write_stall, place.clone()));
        let (served, of) = (self.clone(), place.clone());
        if is_http2 {
            let begun = streams.clone();
            let service = service_fn(move |request| {
                let (served, place, progress) = (served.clone(), of.clone(), begun.begin());
                async move {
                    let answer = served.answer(request, peer, &place).await?;
                    Ok::<_, Infallible>(answer.map(|body| PiecedBody::new(body, progress)))
                }
            });
            let mut builder = http2::Builder::new(streams);
            builder
                .timer(TokioTimer::new())
                .keep_alive_interval(IDLE)
                .keep_alive_timeout(self.first_head)
                .max_concurrent_streams(MOST_STREAMS)
                .max_header_list_size(MOST_HEAD_LIST);
            let connection = builder.serve_connection(stream, service);
            self.watch(connection, &place, |connection| {
                connection.graceful_shutdown()
            })
            .await;
        } else {
            let service = service_fn(move |request| {
                let (served, place) = (served.clone(), of.clone());
                async move { served.answer(request, peer, &place).await }
            });
            let mut builder = http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(IDLE)
                .max_buf_size(MOST_HEAD);
            let connection = builder.serve_connection(stream, service).with_upgrades();
            self.watch(connection, &place, |connection| {
                connection.graceful_shutdown()
            })
            .await;
        }
    }

    /// Drives a connection until it ends, asks nothing in time, or is told to go.
    async fn watch<C: Future>(&self, connection: C, place: &Place, finish: impl Fn(Pin<&mut C>)) {
        let mut connection = pin!(connection);
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
                    finish(connection.as_mut());
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
        peer: Peer,
        place: &Arc<Place>,
    ) -> Result<Response, Infallible> {
        place.ask();
        let mut request = request.map(|body| Body::new(PacedBody::new(body, self.body_stall)));
        let extensions = request.extensions_mut();
        extensions.insert(peer);
        extensions.insert(place.clone());
        // A router is always ready.
        self.app.clone().call(request).await
    }
}
