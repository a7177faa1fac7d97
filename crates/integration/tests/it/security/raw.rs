//! A WebSocket client that sends what no library would.

use anyhow::{Context as _, Result, ensure};
use netra_client::Client;
use netra_integration::soon;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

pub(super) const TEXT: u8 = 1;
pub(super) const GO_ON: u8 = 0;
pub(super) const CLOSE: u8 = 8;
pub(super) const PING: u8 = 9;
pub(super) const PONG: u8 = 10;

/// An open WebSocket, byte by byte.
pub(super) struct Raw(pub(super) TcpStream);

/// A connection whose side takes little before it is read.
pub(super) async fn connection(client: &Client) -> Result<TcpStream> {
    let address = client.base().trim_start_matches("http://").parse()?;
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(16 * 1024)?;
    Ok(socket.connect(address).await?)
}

impl Raw {
    /// Opens one with the client's token, and reads the first frame.
    pub(super) async fn open(client: &Client) -> Result<Self> {
        let mut stream = connection(client).await?;
        let token = client.token().context("it has one")?;
        let ask = format!(
            "GET /ws HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            client.base().trim_start_matches("http://")
        );
        stream.write_all(ask.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon("the answer's head", stream.read_u8()).await?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        ensure!(head.starts_with("HTTP/1.1 101"), "{head}");
        let mut raw = Self(stream);
        let (_, first) = raw.next().await?;
        ensure!(first["type"] == "connection_ready", "{first}");
        Ok(raw)
    }

    /// Sends one frame, masked with zeros.
    pub(super) async fn send(&mut self, opcode: u8, last: bool, payload: &[u8]) -> Result<()> {
        self.announce(opcode, last, payload.len() as u64).await?;
        Ok(self.0.write_all(payload).await?)
    }

    /// Sends the head of a frame of this length, and nothing of it.
    pub(super) async fn announce(&mut self, opcode: u8, last: bool, length: u64) -> Result<()> {
        let mut head = vec![opcode | if last { 0x80 } else { 0 }];
        match length {
            0..126 => head.push(0x80 | length.to_be_bytes()[7]),
            126..0x1_0000 => {
                head.push(0x80 | 126);
                head.extend(&length.to_be_bytes()[6..]);
            }
            _ => {
                head.push(0x80 | 127);
                head.extend(length.to_be_bytes());
            }
        }
        head.extend([0; 4]);
        Ok(self.0.write_all(&head).await?)
    }

    /// The next frame: its opcode, and what it holds. Of a close, the code.
    pub(super) async fn next(&mut self) -> Result<(u8, Value)> {
        let stream = &mut self.0;
        let first = soon("a frame", stream.read_u8()).await?;
        let length = match stream.read_u8().await? {
            126 => u64::from(stream.read_u16().await?),
            127 => stream.read_u64().await?,
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(length)?];
        soon("the rest of a frame", stream.read_exact(&mut payload)).await?;
        let opcode = first & 0x0f;
        let value = match opcode {
            CLOSE => payload
                .first_chunk()
                .map_or(0, |code| u16::from_be_bytes(*code))
                .into(),
            _ => serde_json::from_slice(&payload).unwrap_or_default(),
        };
        Ok((opcode, value))
    }

    /// The code that the server closes with, whatever it sends before.
    pub(super) async fn close_code(&mut self) -> Result<u64> {
        loop {
            if let (CLOSE, code) = self.next().await? {
                return code.as_u64().context("a code");
            }
        }
    }

    /// The next answer or event, past signs of life.
    pub(super) async fn text(&mut self) -> Result<Value> {
        loop {
            if let (TEXT, value) = self.next().await? {
                return Ok(value);
            }
        }
    }
}
