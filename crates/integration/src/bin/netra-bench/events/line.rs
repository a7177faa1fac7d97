//! One socket of the load generator: as little as a client can do.

use anyhow::{Context as _, Result, ensure};
use futures::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// An open socket.
pub(super) struct Line(WebSocketStream<TcpStream>);

impl Line {
    /// Connects to `/ws` of a server, with a token where it wants one.
    pub(super) async fn open(url: &str, token: Option<&str>) -> Result<Self> {
        let host = url.strip_prefix("http://").context("a plain address")?;
        let mut request = format!("ws://{host}/ws").into_client_request()?;
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse()?;
            request.headers_mut().insert("authorization", value);
        }
        let stream = TcpStream::connect(host).await?;
        stream.set_nodelay(true)?;
        let config = WebSocketConfig::default().read_buffer_size(4 * 1024);
        let opened = client_async_with_config(request, stream, Some(config)).await?;
        Ok(Self(opened.0))
    }

    /// Connects to Netra and waits for its first frame.
    pub(super) async fn ready(url: &str, token: &str) -> Result<Self> {
        let mut line = Self::open(url, Some(token)).await?;
        let ready = line.next().await?;
        ensure!(ready.contains("connection_ready"), "{ready}");
        Ok(line)
    }

    /// Subscribes after this number, or from now on.
    pub(super) async fn subscribe(&mut self, after: Option<u64>) -> Result<()> {
        let after = after.map_or("\"now\"".to_owned(), |seq| seq.to_string());
        let frame = format!("{{\"type\":\"subscribe\",\"id\":1,\"after\":{after}}}");
        self.0.send(Message::text(frame)).await?;
        let ack = self.next().await?;
        ensure!(ack.contains("\"ack\""), "{ack}");
        Ok(())
    }

    /// Connects and subscribes.
    pub(super) async fn subscribed(url: &str, token: &str, after: Option<u64>) -> Result<Self> {
        let mut line = Self::ready(url, token).await?;
        line.subscribe(after).await?;
        Ok(line)
    }

    /// The next text.
    pub(super) async fn next(&mut self) -> Result<String> {
        loop {
            match self.0.next().await.context("the socket was closed")?? {
                Message::Text(text) => return Ok(text.as_str().to_owned()),
                Message::Close(frame) => anyhow::bail!("the socket was closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// Takes so many events; positions do not count.
    pub(super) async fn take(&mut self, events: usize) -> Result<()> {
        let mut left = events;
        while left > 0 {
            if let Message::Text(text) = self.0.next().await.context("the socket was closed")?? {
                left -= usize::from(!text.as_str().starts_with("{\"type\":\"position\""));
            }
        }
        Ok(())
    }
}

/// Opens so many lines, at most 64 at a time, in their order.
pub(super) async fn open_many<F: Future<Output = Result<Line>>>(
    count: usize,
    open: impl Fn(usize) -> F,
) -> Result<Vec<Line>> {
    use futures::TryStreamExt as _;
    let opening = futures::stream::iter(0..count).map(open);
    opening.buffered(64).try_collect().await
}
