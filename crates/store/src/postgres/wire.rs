//! Messages to and from a server, and how a connection begins.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use netra_context::Secret;
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::backend::{ErrorResponseBody, Message};
use postgres_protocol::message::frontend;

use super::address::{Address, Place};
use crate::sql::{Error, Result};

/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
const BUFFER: usize = 16 * 1024;
/// What the schema's triggers say to whoever writes for a user who is gone or disabled.
const REFUSED: &str = "NETRA";

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn connect(place: &Place) -> io::Result<Self> {
        match place {
            Place::Unix(path) => UnixStream::connect(path).map(Self::Unix),
            Place::Tcp(host, port) => {
                let mut last = None;
                for address in std::net::ToSocketAddrs::to_socket_addrs(&(&**host, *port))? {
                    match TcpStream::connect_timeout(&address, CONNECT) {
                        Ok(stream) => {
                            stream.set_nodelay(true)?;
                            return Ok(Self::Tcp(stream));
                        }
                        Err(error) => last = Some(error),
                    }
                }
                Err(last.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes),
            Self::Unix(stream) => stream.write_all(bytes),
        }
    }

    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(timeout),
            Self::Unix(stream) => stream.set_read_timeout(timeout),
        }
    }

    fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
        }
    }

    fn shutdown(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        }
    }

    fn set_nonblocking(&self, is: bool) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nonblocking(is),
            Self::Unix(stream) => stream.set_nonblocking(is),
        }
    }
}

pub(super) struct Wire {
    stream: Stream,
    /// What is to be sent with the next flush.
    pub(super) outgoing: BytesMut,
    incoming: BytesMut,
    /// What came on the channels that this connection listens to; one that listens takes it out again.
    heard: VecDeque<String>,
}

/// Ends a connection that another thread uses: what that one waits for fails.
pub(super) struct Closer(Stream);

impl Closer {
    pub(super) fn close(&self) {
        // One that has ended already need not be ended.
        self.0.shutdown().ok();
    }
}

impl Wire {
    /// Connects and proves who connects.
    pub(super) fn connect(address: &Address) -> Result<Self> {
        let at = |error: &dyn std::fmt::Display| {
            let place = match &address.place {
                Place::Tcp(host, port) => format!("{host}:{port}"),
                Place::Unix(path) => path.display().to_string(),
            };
            Error::Unavailable(format!("PostgreSQL at {place}: {error}"))
        };
        let stream = Stream::connect(&address.place).map_err(|error| at(&error))?;
        let mut wire = Self {
            stream,
            outgoing: BytesMut::with_capacity(BUFFER),
            incoming: BytesMut::with_capacity(BUFFER),
            heard: VecDeque::new(),
        };
        wire.begin(address).map_err(|error| at(&error))?;
        Ok(wire)
    }

    fn begin(&mut self, address: &Address) -> Result<()> {
        let parameters = [
            ("user", &*address.user),
            ("database", &*address.database),
            ("client_encoding", "UTF8"),
            ("application_name", "netra"),
        ];
        frontend::startup_message(parameters, &mut self.outgoing)?;
        self.flush()?;
        loop {
            match self.receive()? {
                Message::AuthenticationOk
                | Message::BackendKeyData(_)
                | Message::AuthenticationSaslFinal(_) => {}
                Message::ReadyForQuery(_) => return Ok(()),
                Message::ErrorResponse(body) => return Err(refusal(&body)),
                asked => self.prove(address, &asked)?,
            }
        }
    }

    fn prove(&mut self, address: &Address, asked: &Message) -> Result<()> {
        let missing = || Error::Unavailable("it asks for a password, and the URL has none".into());
        let password = address.password.as_ref().map(Secret::expose);
        let password = password.ok_or_else(missing)?;
        match asked {
            Message::AuthenticationCleartextPassword => {
                frontend::password_message(password.as_bytes(), &mut self.outgoing)?;
            }
            Message::AuthenticationMd5Password(body) => {
                let hash = md5_hash(address.user.as_bytes(), password.as_bytes(), body.salt());
                frontend::password_message(hash.as_bytes(), &mut self.outgoing)?;
            }
            Message::AuthenticationSasl(_) => return self.prove_by_scram(password),
            _ => return Err(unexpected()),
        }
        self.flush()
    }

    fn prove_by_scram(&mut self, password: &str) -> Result<()> {
        let binding = sasl::ChannelBinding::unsupported();
        let mut scram = sasl::ScramSha256::new(password.as_bytes(), binding);
        frontend::sasl_initial_response(sasl::SCRAM_SHA_256, scram.message(), &mut self.outgoing)?;
        self.flush()?;
        let Message::AuthenticationSaslContinue(body) = self.receive_or_refusal()? else {
            return Err(unexpected());
        };
        scram.update(body.data())?;
        frontend::sasl_response(scram.message(), &mut self.outgoing)?;
        self.flush()?;
        let Message::AuthenticationSaslFinal(body) = self.receive_or_refusal()? else {
            return Err(unexpected());
        };
        Ok(scram.finish(body.data())?)
    }

    fn receive_or_refusal(&mut self) -> Result<Message> {
        match self.receive()? {
            Message::ErrorResponse(body) => Err(refusal(&body)),
            message => Ok(message),
        }
    }

    /// Sends all that was written.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.outgoing)?;
        self.outgoing.clear();
        Ok(())
    }

    pub(super) fn closer(&self) -> Result<Closer> {
        Ok(Closer(self.stream.try_clone()?))
    }

    /// The next notification; none in this time. To be asked while no answer is awaited.
    pub(super) fn heard(&mut self, patience: Duration) -> Result<Option<String>> {
        let until = Instant::now() + patience;
        loop {
            while let Some(message) = Message::parse(&mut self.incoming)? {
                self.take_aside(&message)?;
            }
            if let Some(heard) = self.heard.pop_front() {
                return Ok(Some(heard));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left))?;
            let filled = self.fill();
            self.stream.set_read_timeout(None)?;
            match filled {
                Ok(0) => return Err(closed()),
                Ok(_) => {}
                Err(error) if is_late(&error) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Keeps what was notified.
    fn take_aside(&mut self, message: &Message) -> Result<()> {
        if let Message::NotificationResponse(body) = message {
            self.heard.push_back(body.message()?.to_owned());
        }
        Ok(())
    }

    /// The next message that answers something.
    pub(super) fn receive(&mut self) -> Result<Message> {
        loop {
            match Message::parse(&mut self.incoming)? {
                Some(Message::NoticeResponse(_) | Message::ParameterStatus(_)) => {}
                Some(message @ Message::NotificationResponse(_)) => self.take_aside(&message)?,
                Some(message) => return Ok(message),
                None => {
                    if self.fill()? == 0 {
                        return Err(closed());
                    }
                }
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut buffer = [0; BUFFER];
        let read = self.stream.read(&mut buffer)?;
        self.incoming.extend_from_slice(&buffer[..read]);
        Ok(read)
    }

    /// Whether the server has not closed the connection meanwhile.
    pub(super) fn is_open(&mut self) -> bool {
        if self.stream.set_nonblocking(true).is_err() {
            return false;
        }
        let end = loop {
            match self.fill() {
                Ok(0) => break io::ErrorKind::UnexpectedEof,
                Ok(_) => {}
                Err(error) => break error.kind(),
            }
        };
        end == io::ErrorKind::WouldBlock && self.stream.set_nonblocking(false).is_ok()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.outgoing.clear();
        frontend::terminate(&mut self.outgoing);
        // A server that is gone need not be told.
        self.flush().ok();
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

fn closed() -> Error {
    Error::Unavailable("PostgreSQL has closed the connection".into())
}

fn is_late(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

fn unexpected() -> Error {
    Error::Unavailable("the server asks for a proof that netra does not know".into())
}

/// What a server says that refuses something. Its details would hold values; they are left out.
pub(super) fn refusal(body: &ErrorResponseBody) -> Error {
    let (mut code, mut text) = (String::new(), String::new());
    let mut fields = body.fields();
    while let Ok(Some(field)) = fields.next() {
        let value = || String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => code = value(),
            b'M' => text = value(),
            _ => {}
        }
    }
    if code == REFUSED {
        return Error::Refused;
    }
    let words = format!("{text} ({code})");
    // Connections, resources, a server that stops, and transactions that stood in each other's way.
    match code.get(..2) {
        Some("08" | "53" | "57" | "58" | "40" | "25") => Error::Unavailable(words),
        Some("28" | "3D") => Error::Unavailable(words),
        _ => Error::Bug(words),
    }
}
