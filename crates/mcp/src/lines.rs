//! Messages as lines over a child's standard input and output, with a bound on each line and on
//! how much may come.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use netra_context::memory::{self, Scope};
use rmcp::RoleClient;
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::ending::{Ending, Why};

/// The longest message of a server, in bytes.
pub(crate) const MAX_MESSAGE_BYTES: usize = 8 * 1024 * 1024;
/// How much may come within [`WINDOW`]: an instance that sends more is stopped.
const MAX_WINDOW_BYTES: usize = 64 * 1024 * 1024;
const MAX_WINDOW_LINES: usize = 20_000;
const WINDOW: Duration = Duration::from_secs(10);

/// A transport over a reader and a writer. What comes is charged to the account of `scope`.
pub(crate) struct Lines<R, W> {
    read: BufReader<R>,
    /// The line that is being read: reading can be broken off and taken up again.
    line: Vec<u8>,
    pace: Pace,
    write: Arc<Mutex<Option<W>>>,
    scope: Scope,
    ending: Ending,
}

impl<R: AsyncRead + Unpin, W> Lines<R, W> {
    pub(crate) fn new((read, write): (R, W), scope: Scope, ending: Ending) -> Self {
        Self {
            read: BufReader::with_capacity(32 * 1024, read),
            line: Vec::new(),
            pace: Pace::new(),
            write: Arc::new(Mutex::new(Some(write))),
            scope,
            ending,
        }
    }

    /// The next message. What is none is passed over: some programs print greetings.
    async fn next(&mut self) -> Result<RxJsonRpcMessage<RoleClient>, Why> {
        loop {
            self.next_line().await?;
            let read = {
                let _room = memory::reserve_for_json(&self.line).map_err(Why::Memory)?;
                serde_json::from_slice(&self.line)
            };
            let was_empty = self.line.iter().all(u8::is_ascii_whitespace);
            // A long line's room is not kept for the short ones after it.
            self.line = Vec::new();
            match read {
                Ok(message) => return Ok(message),
                Err(_) if was_empty => {}
                Err(error) => tracing::debug!(%error, "a tool server wrote what is no message"),
            }
        }
    }

    /// Reads up to the end of a line. Dropped while it waits, it has lost nothing.
    async fn next_line(&mut self) -> Result<(), Why> {
        loop {
            let available = match self.read.fill_buf().await {
                Ok([]) | Err(_) => return Err(Why::Closed),
                Ok(available) => available,
            };
            let end = available.iter().position(|byte| *byte == b'\n');
            let part = &available[..end.unwrap_or(available.len())];
            if self.line.len() + part.len() > MAX_MESSAGE_BYTES {
                return Err(Why::LongMessage);
            }
            self.line.extend_from_slice(part);
            let used = part.len() + usize::from(end.is_some());
            self.read.consume(used);
            self.pace.took(used, end.is_some())?;
            if end.is_some() {
                return Ok(());
            }
        }
    }
}

impl<R, W> Transport<RoleClient> for Lines<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    type Error = io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let write = Arc::clone(&self.write);
        self.scope.wrap(async move {
            let mut line = serde_json::to_vec(&message)?;
            line.push(b'\n');
            let mut write = write.lock().await;
            let open = write.as_mut().ok_or(io::ErrorKind::NotConnected)?;
            open.write_all(&line).await?;
            open.flush().await
        })
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        let scope = self.scope;
        match scope.wrap(self.next()).await {
            Ok(message) => Some(message),
            Err(why) => {
                self.ending.note(why);
                None
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        // Dropped, not only shut: the child sees the end of its input.
        drop(self.write.lock().await.take());
        Ok(())
    }
}

/// How much has come lately.
struct Pace {
    began: Instant,
    bytes: usize,
    lines: usize,
}

impl Pace {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            bytes: 0,
            lines: 0,
        }
    }

    fn took(&mut self, bytes: usize, whole_line: bool) -> Result<(), Why> {
        if self.began.elapsed() > WINDOW {
            *self = Self::new();
        }
        self.bytes += bytes;
        self.lines += usize::from(whole_line);
        if self.bytes > MAX_WINDOW_BYTES || self.lines > MAX_WINDOW_LINES {
            return Err(Why::Flood);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rmcp::model::{JsonRpcMessage, ServerNotification};

    use super::*;

    type Read = Lines<&'static [u8], tokio::io::Sink>;

    fn lines(bytes: Vec<u8>) -> (Read, Ending) {
        let ending = Ending::default();
        let bytes: &'static [u8] = bytes.leak();
        let pair = (bytes, tokio::io::sink());
        (Lines::new(pair, Scope::system(), ending.clone()), ending)
    }

    #[tokio::test]
    async fn greetings_and_empty_lines_are_passed_over() {
        let text = "hello\n\r\n{\"a\":1}\n\
            {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\r\n";
        let (mut lines, ending) = lines(text.into());
        let message = lines.receive().await;
        let Some(JsonRpcMessage::Notification(message)) = message else {
            panic!("{message:?}");
        };
        assert!(matches!(
            message.notification,
            ServerNotification::ToolListChangedNotification(_)
        ));
        assert!(lines.receive().await.is_none());
        assert!(matches!(ending.why(), Some(Why::Closed)));
    }

    #[tokio::test]
    async fn a_line_without_an_end_and_a_flood_of_lines_end_it() {
        let (mut long, ending) = lines(vec![b'x'; MAX_MESSAGE_BYTES + 1]);
        assert!(long.receive().await.is_none());
        assert!(matches!(ending.why(), Some(Why::LongMessage)));
        let (mut flood, ending) = lines(b"x\n".repeat(MAX_WINDOW_LINES + 1));
        assert!(flood.receive().await.is_none());
        assert!(matches!(ending.why(), Some(Why::Flood)));
    }

    #[tokio::test]
    async fn a_message_that_its_user_has_no_memory_for_ends_it() {
        let account = memory::Account::user();
        account.set_limit(1);
        let held = account.add_external();
        held.set(2);
        let text = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":[{}1]}}\n",
            "1,".repeat(100_000)
        );
        let bytes: &'static [u8] = text.into_bytes().leak();
        let ending = Ending::default();
        let pair = (bytes, tokio::io::sink());
        let mut lines = Lines::new(pair, account.scope(), ending.clone());
        assert!(lines.receive().await.is_none());
        assert!(matches!(ending.why(), Some(Why::Memory(_))));
    }
}
