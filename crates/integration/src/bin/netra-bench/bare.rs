//! Bare prototypes, each a process of its own, and the one of sockets: a server without users, log,
//! filters and numbers, as a measure of what the machine gives. A task and a bounded channel for each
//! socket, a small read buffer, all that waits is fed and flushed once.

use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use futures::SinkExt as _;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, mpsc};

use crate::say;

/// Before the address of a server that has started.
const READY: &str = "ready ";
const READ_BUFFER: usize = 4 * 1024;
const CHANNEL: usize = 64;
const FEED: usize = 32;

type Sockets = Arc<Mutex<Vec<mpsc::Sender<Utf8Bytes>>>>;

#[derive(Debug, Deserialize)]
struct Publish {
    events: usize,
    bytes: usize,
}

/// A bare prototype as a process of its own, killed when dropped.
pub(crate) struct Bare {
    child: Child,
    pub(crate) url: String,
}

impl Bare {
    /// This program with these arguments, once it says where it is.
    pub(crate) async fn start(arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stdout.take().context("its output was asked for")?;
        let line = BufReader::new(output).lines().next_line().await?;
        let url = line.as_deref().and_then(|line| line.strip_prefix(READY));
        let url = url.context("the bare prototype did not start")?.to_owned();
        Ok(Self { child, url })
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }
}

/// The sockets, until it is killed.
pub(crate) async fn sockets() -> Result<()> {
    let sockets = Sockets::default();
    let router = Router::new()
        .route("/ws", get(open))
        .route("/publish", get(publish))
        .with_state(sockets);
    serve(router).await
}

/// Serves until it is killed; prints its address as `netra serve` does.
pub(crate) async fn serve(router: Router) -> Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    say(&format!("{READY}http://{}", listener.local_addr()?));
    let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
        // Without it the kernel waits for more; a socket that does not care has it off.
        stream.set_nodelay(true).ok();
    });
    Ok(axum::serve(listener, router).await?)
}

async fn open(State(sockets): State<Sockets>, upgrade: WebSocketUpgrade) -> Response {
    let upgrade = upgrade.read_buffer_size(READ_BUFFER);
    upgrade.on_upgrade(async move |socket| {
        let (sender, events) = mpsc::channel(CHANNEL);
        sockets.lock().await.push(sender);
        converse(socket, events).await;
    })
}

async fn converse(mut socket: WebSocket, mut events: mpsc::Receiver<Utf8Bytes>) {
    let mut batch = Vec::with_capacity(FEED);
    loop {
        let count = tokio::select! {
            message = socket.recv() => match message {
                Some(Ok(_)) => continue,
                _ => return,
            },
            count = events.recv_many(&mut batch, FEED) => count,
        };
        if count == 0 {
            return;
        }
        for event in batch.drain(..) {
            if socket.feed(Message::Text(event)).await.is_err() {
                return;
            }
        }
        if socket.flush().await.is_err() {
            return;
        }
    }
}

/// Sends the same text so many times to each socket, from a plain thread, as a writer would.
async fn publish(State(sockets): State<Sockets>, Query(publish): Query<Publish>) -> String {
    let sockets = sockets.lock().await.clone();
    let count = sockets.len();
    let text = Utf8Bytes::from("x".repeat(publish.bytes));
    let all = move || {
        for _ in 0..publish.events {
            for socket in &sockets {
                socket.blocking_send(text.clone()).ok();
            }
        }
    };
    std::thread::spawn(all);
    count.to_string()
}
