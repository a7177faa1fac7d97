//! A worker process as the server sees it: started with nothing, spoken to in frames, killed when dropped.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use netra_memory::{OverLimit, Reservation, Scope};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::frame::{self, HEADER, Kind};

/// How much is read at once while nothing is known about the length of what comes.
const CHUNK: usize = 8 * 1024;
/// How long a process that has closed its line may take to be gone.
const EXIT_GRACE: Duration = Duration::from_millis(500);

/// One started worker. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    /// Bytes read; what lies before `consumed` has been handed out.
    inbox: Vec<u8>,
    consumed: usize,
    /// Bytes to write; what lies before `written` has been written.
    outbox: Vec<u8>,
    written: usize,
    /// The room for the frame that is coming in: its pieces, and the whole that is made of them.
    room: Option<Reservation>,
    /// A snapshot was asked for and has not come yet.
    pub(crate) owes_snapshot: bool,
}

/// Why no frame came.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The process is gone; `None` when it would not go by itself.
    Ended(Option<ExitStatus>),
    /// It announced a frame larger than the caller accepts.
    TooLarge,
    /// The caller's account has no room for what it sends.
    NoRoom(OverLimit),
    /// It sent what is not a frame, or not the message that was due.
    Nonsense(String),
}

/// How a process ended, as far as its exit status tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Memory,
    Time,
    Other(String),
}

impl Lost {
    pub(crate) fn end(status: Option<ExitStatus>) -> End {
        match status {
            Some(status) if status.code() == Some(monty_types::OOM_EXIT_CODE) => End::Memory,
            Some(status) if status.signal() == Some(rustix::process::Signal::XCPU.as_raw()) => {
                End::Time
            }
            Some(status) => End::Other(status.to_string()),
            None => End::Other("it closed its line and stayed".to_owned()),
        }
    }
}

impl Process {
    /// Starts `program` with one argument, an empty environment and a process group of its own, so that a Ctrl-C at
    /// the server's terminal reaches only the server. Nothing runs between fork and exec, so that starting costs
    /// the same however large the server is.
    pub(crate) fn spawn(program: &Path, argument: &str) -> io::Result<Process> {
        let mut child = Command::new(program)
            .arg(argument)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the process has no pipes"));
        };
        Ok(Process {
            child,
            stdin,
            stdout,
            inbox: Vec::new(),
            consumed: 0,
            outbox: Vec::new(),
            written: 0,
            room: None,
            owes_snapshot: false,
        })
    }

    /// Whether the process is still there.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Puts a message in line; it is written by the next `receive`.
    pub(crate) fn queue(&mut self, message: &impl Serialize) -> io::Result<()> {
        frame::append_message(&mut self.outbox, message)
    }

    /// Puts a snapshot in line.
    pub(crate) fn queue_snapshot(&mut self, snapshot: &[u8]) -> io::Result<()> {
        frame::append(&mut self.outbox, Kind::Snapshot, snapshot)
    }

    /// Writes what is in line and waits for the next frame of at most `max` bytes. Nothing is lost when the future
    /// is dropped: the next call goes on where this one stopped.
    pub(crate) async fn receive(&mut self, max: usize) -> Result<(Kind, Vec<u8>), Lost> {
        if self.flush().await.is_err() {
            return Err(self.ended().await);
        }
        loop {
            if let Some(frame) = self.take_frame(max)? {
                return Ok(frame);
            }
            self.inbox.reserve(CHUNK);
            match self.stdout.read_buf(&mut self.inbox).await {
                Ok(0) | Err(_) => return Err(self.ended().await),
                Ok(_) => {}
            }
        }
    }

    /// Like `receive`, for a message.
    pub(crate) async fn receive_message<M: DeserializeOwned>(
        &mut self,
        max: usize,
    ) -> Result<M, Lost> {
        match self.receive(max).await? {
            (Kind::Message, body) => {
                let room = netra_memory::json_room(&body);
                let _room = Scope::current().reserve(room).map_err(Lost::NoRoom)?;
                serde_json::from_slice(&body).map_err(|error| Lost::Nonsense(error.to_string()))
            }
            (Kind::Snapshot, _) => Err(Lost::Nonsense(
                "a snapshot that was not asked for".to_owned(),
            )),
        }
    }

    /// The process's number; `None` when it is gone.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    async fn flush(&mut self) -> io::Result<()> {
        while self.written < self.outbox.len() {
            match self.stdin.write(&self.outbox[self.written..]).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => self.written += count,
            }
        }
        self.outbox.clear();
        self.written = 0;
        Ok(())
    }

    /// Takes the next frame out of what has been read, if it is there in full.
    fn take_frame(&mut self, max: usize) -> Result<Option<(Kind, Vec<u8>)>, Lost> {
        let unread = &self.inbox[self.consumed..];
        let Some(header) = unread.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let Some((kind, length)) = frame::parse_header(*header) else {
            return Err(Lost::Nonsense("not a frame".to_owned()));
        };
        if length > max {
            return Err(Lost::TooLarge);
        }
        if self.room.is_none() && length > CHUNK {
            let room = Scope::current().reserve(2 * length as u64);
            self.room = Some(room.map_err(Lost::NoRoom)?);
        }
        let Some(body) = unread.get(HEADER..HEADER + length) else {
            return Ok(None);
        };
        let body = body.to_vec();
        self.room = None;
        self.consumed += HEADER + length;
        if self.consumed == self.inbox.len() {
            self.inbox.clear();
            self.consumed = 0;
            self.inbox.shrink_to(CHUNK);
        }
        Ok(Some((kind, body)))
    }

    async fn ended(&mut self) -> Lost {
        match timeout(EXIT_GRACE, self.child.wait()).await {
            Ok(status) => Lost::Ended(status.ok()),
            Err(_) => Lost::Ended(None),
        }
    }
}
