//! A subscription that outlives its sockets.

use std::time::Duration;

use netra_protocol::frame::{After, ServerFrame, Subscribe};
use tokio::time::{Instant, sleep_until};

use crate::backoff::Backoff;
use crate::client::Client;
use crate::error::Error;
use crate::incoming::{Incoming, Received};
use crate::socket::{Credential, Socket};

/// Before the next attempt to get another token for an open socket.
const NEXT_RENEWAL: Duration = Duration::from_secs(5);
/// How often the server may refuse a token that was just renewed.
const REFUSALS: u32 = 2;

/// Events of a subscription over as many sockets as it takes: after each break it goes on behind
/// the last event or position, so that none is missing and none comes twice.
pub struct Feed {
    client: Client,
    credential: Credential,
    wish: Subscribe,
    socket: Option<Socket>,
    renewal: Option<Instant>,
    refusals: u32,
    backoff: Backoff,
    connects: u64,
    since: Option<Instant>,
    latest_seq: u64,
}

/// Where a feed stands: in which log, and after which number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Names the log.
    pub epoch: String,
    /// Everything up to here was taken, or does not pass the filter.
    pub seq: u64,
}

impl Feed {
    /// Connects and subscribes.
    pub async fn open(client: &Client, wish: Subscribe) -> Result<Self, Error> {
        Self::open_with(client, wish, Credential::Bearer).await
    }

    /// The same with a choice of the credential.
    pub async fn open_with(
        client: &Client,
        wish: Subscribe,
        credential: Credential,
    ) -> Result<Self, Error> {
        let mut feed = Self {
            client: client.clone(),
            credential,
            wish,
            socket: None,
            renewal: None,
            refusals: 0,
            backoff: Backoff::default(),
            connects: 0,
            since: None,
            latest_seq: 0,
        };
        feed.connect().await?;
        Ok(feed)
    }

    /// How long to go on trying when the server is not there.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How often it has connected.
    pub fn connects(&self) -> u64 {
        self.connects
    }

    /// The log's last number when it connected.
    pub fn latest_seq(&self) -> u64 {
        self.latest_seq
    }

    /// Where to go on some other time: `after` and `epoch` of a wish.
    pub fn place(&self) -> Option<Place> {
        let (After::Seq(seq), Some(epoch)) = (self.reached(), &self.wish.epoch) else {
            return None;
        };
        Some(Place {
            epoch: epoch.clone(),
            seq,
        })
    }

    /// The next event. Fails when another attempt would not help (signed out, the log is another
    /// one) or patience is at its end. Cancel safe.
    pub async fn next_event(&mut self) -> Result<Received, Error> {
        loop {
            if let Some(received) = self.step().await? {
                return Ok(received);
            }
        }
    }

    /// The next event up to this number; none when there is no other, or the first one behind it
    /// has come. For reading what the log holds, to its end.
    pub async fn next_until(&mut self, last: u64) -> Result<Option<Received>, Error> {
        while !matches!(self.reached(), After::Seq(seq) if seq >= last) {
            if let Some(received) = self.step().await? {
                return Ok((received.event.seq <= last).then_some(received));
            }
        }
        Ok(None)
    }

    /// One turn, and what follows from its failure.
    async fn step(&mut self) -> Result<Option<Received>, Error> {
        match self.turn().await {
            Ok(Some(received)) => {
                self.wish.after = After::Seq(received.event.seq);
                self.backoff.reset();
                self.refusals = 0;
                Ok(Some(received))
            }
            Ok(None) => Ok(None),
            Err(error) => self.pause(error).await.map(|()| None),
        }
    }

    /// Drops the socket without goodbye, as a broken network does; the next call connects again.
    pub fn interrupt(&mut self) {
        self.wish.after = self.reached();
        self.socket = None;
    }

    /// The next event; none when something else came, or the token was renewed. The socket is read
    /// meanwhile: a renewal that hangs must hold neither events nor the answers to pings back.
    async fn turn(&mut self) -> Result<Option<Received>, Error> {
        if self.socket.is_none() {
            self.connect().await?;
        }
        let Some(socket) = &mut self.socket else {
            return Ok(None);
        };
        let Some(due) = self.renewal else {
            return event_of(socket.next_incoming().await?);
        };
        let renewing = async {
            sleep_until(due).await;
            self.client.fresh_token().await
        };
        let token = tokio::select! {
            token = renewing => token,
            came = socket.next_incoming() => return event_of(came?),
        };
        Box::pin(self.hand_over(token)).await.map(|()| None)
    }

    async fn connect(&mut self) -> Result<(), Error> {
        let mut socket = Box::pin(Socket::connect_with(&self.client, self.credential)).await?;
        let subscribed = socket.subscribe(self.wish.clone()).await?;
        // From now on the position counts, not the word "now", and in this log only.
        self.wish.after = After::Seq(subscribed.after);
        self.wish.epoch = Some(subscribed.epoch);
        self.socket = Some(socket);
        self.renewal = self.client.renewal_due();
        self.connects += 1;
        self.since = Some(Instant::now());
        self.latest_seq = subscribed.latest_seq;
        Ok(())
    }

    /// Gives the open socket the next token before the server closes it.
    async fn hand_over(&mut self, token: Result<Option<String>, Error>) -> Result<(), Error> {
        self.renewal = Some(Instant::now() + NEXT_RENEWAL);
        let Some(socket) = &mut self.socket else {
            return Ok(());
        };
        let token = match token {
            Ok(Some(token)) if socket.token() != Some(&*token) => token,
            // Not now: the old one is good for a while. When it is not, the server says so.
            _ => return Ok(()),
        };
        match socket.auth_refresh(token).await {
            Ok(()) => self.renewal = self.client.renewal_due(),
            Err(Error::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// What the next subscription begins after. Events that were received and not taken yet come
    /// again.
    fn reached(&self) -> After {
        match (&self.socket, self.wish.after) {
            (Some(socket), After::Seq(after)) if socket.has_no_early() => {
                After::Seq(after.max(socket.position().unwrap_or(0)))
            }
            (_, after) => after,
        }
    }

    async fn pause(&mut self, error: Error) -> Result<(), Error> {
        let used = self.socket.as_ref().and_then(Socket::token);
        let used = used.map(str::to_owned);
        // A gap leaves the position where it was: before what is missing.
        self.interrupt();
        if error.wants_token() && self.client.is_renewable() && self.refusals < REFUSALS {
            self.refusals += 1;
            // The session may go on with another token; when it does not, the renewal says so.
            if let Err(error) = self.client.other_token(used.as_deref()).await {
                return self.wait(error).await;
            }
            return Ok(());
        }
        self.wait(error).await
    }

    async fn wait(&mut self, error: Error) -> Result<(), Error> {
        if !goes_on(&error, self.connects > 0) {
            return Err(error);
        }
        if let Some(since) = self.since.take() {
            self.backoff.lasted(since.elapsed());
        }
        self.backoff.pause(error).await
    }
}

/// An event; a subscription that the server has ended is an error.
fn event_of(incoming: Incoming) -> Result<Option<Received>, Error> {
    match incoming {
        Incoming::Event(received) => Ok(Some(*received)),
        Incoming::Frame(ServerFrame::Error { id, error }) if id.is_null() => {
            Err(Error::refused(0, error, None))
        }
        Incoming::Frame(_) => Ok(None),
    }
}

/// Whether another socket may do better. The server may still count the one that was just lost, so
/// only the first is one too many for good.
fn goes_on(error: &Error, connected: bool) -> bool {
    let crowded = matches!(error, Error::Closed { code: 4009, .. });
    error.is_passing() || (crowded && connected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_socket_too_many_ends_a_feed_unless_it_had_one() {
        let crowded = Error::Closed {
            code: 4009,
            reason: String::new(),
        };
        assert!(!goes_on(&crowded, false));
        assert!(goes_on(&crowded, true));
        assert!(!goes_on(&Error::Malformed(String::new()), true));
    }
}
