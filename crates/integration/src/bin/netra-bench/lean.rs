//! A client of one connection that asks the same again and again and looks at nothing but how it was answered: with
//! thousands of clients on the server's own processors, what a whole client does with each answer would be measured too.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use netra_client::Client;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The largest answer that is expected.
const LARGEST: usize = 64 * 1024;

pub(crate) struct LeanClient {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

/// How it was answered.
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
}

impl LeanClient {
    /// As whom that client asks, with a body of JSON.
    pub(crate) async fn post(client: &Client, path: &str, body: &impl Serialize) -> Result<Self> {
        let host = client.base().trim_start_matches("http://");
        let token = client.token().context("a token")?;
        let body = serde_json::to_string(body)?;
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let stream = TcpStream::connect(host).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            request: request.into_bytes(),
            answer: Vec::new(),
        })
    }

    pub(crate) async fn ask(&mut self) -> Result<Answered> {
        self.stream.write_all(&self.request).await?;
        self.answer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.answer).await?;
            ensure!(read > 0, "the connection ended");
            if let Some(answered) = parse(&self.answer)? {
                return Ok(answered);
            }
            ensure!(self.answer.len() <= LARGEST, "a larger answer");
        }
    }
}

/// None as long as it is not whole.
fn parse(answer: &[u8]) -> Result<Option<Answered>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = parsed.parse(answer)? else {
        return Ok(None);
    };
    let status = parsed.code.context("a status")?;
    let number = |name: &str| -> Result<Option<u64>> {
        let header = parsed
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name));
        let value = header.map(|header| std::str::from_utf8(header.value));
        Ok(value.transpose()?.map(str::parse).transpose()?)
    };
    let Some(length) = number("content-length")? else {
        bail!("an answer without a length");
    };
    let whole = head + usize::try_from(length)?;
    Ok((answer.len() >= whole).then_some(Answered {
        status,
        retry_after: number("retry-after")?.map(Duration::from_secs),
    }))
}
