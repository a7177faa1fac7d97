//! A subscription that outlives its sockets.

use netra_protocol::frame::{After, Subscribe};

use crate::backoff::Backoff;
use crate::client::Client;
use crate::error::Error;
use crate::socket::{Credential, Received, Socket};

/// Events of a subscription over as many sockets as it takes: after each break it goes on behind
/// the last event, so that none is missing and none comes twice.
pub struct Feed {
    client: Client,
    credential: Credential,
    wish: Subscribe,
    socket: Option<Socket>,
    backoff: Backoff,
    connects: u64,
}

impl Feed {
    /// Connects and subscribes.
    pub async fn open(client: &Client, wish: Subscribe) -> Result<Self, Error> {
        let mut feed = Self {
            client: client.clone(),
            credential: Credential::Bearer,
            wish,
            socket: None,
            backoff: Backoff::default(),
            connects: 0,
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

    /// The next event. Fails when another attempt would not help (signed out, the log is another
    /// one) or patience is at its end.
    pub async fn next_event(&mut self) -> Result<Received, Error> {
        loop {
            let result = match &mut self.socket {
                Some(socket) => socket.next_event().await,
                None => match self.connect().await {
                    Ok(()) => continue,
                    Err(error) => Err(error),
                },
            };
            match result {
                Ok(received) => {
                    self.wish.after = After::Seq(received.event.seq);
                    self.backoff.reset();
                    return Ok(received);
                }
                Err(error) => self.pause(error).await?,
            }
        }
    }

    /// Drops the socket without goodbye, as a broken network does; the next call connects again.
    pub fn interrupt(&mut self) {
        self.keep_position();
        self.socket = None;
    }

    async fn connect(&mut self) -> Result<(), Error> {
        let mut socket = Box::pin(Socket::connect_with(&self.client, self.credential)).await?;
        let subscribed = socket.subscribe(self.wish.clone()).await?;
        // From now on the position counts, not the word "now", and in this log only.
        self.wish.after = After::Seq(subscribed.after);
        self.wish.epoch = Some(subscribed.epoch);
        self.socket = Some(socket);
        self.connects += 1;
        Ok(())
    }

    /// Events that were received and not taken yet come again: the wish stands at the last taken.
    fn keep_position(&mut self) {
        if let Some(socket) = &self.socket
            && let Some(position) = socket.position()
            && socket.has_no_early()
            && let After::Seq(after) = self.wish.after
        {
            self.wish.after = After::Seq(after.max(position));
        }
    }

    async fn pause(&mut self, error: Error) -> Result<(), Error> {
        if !matches!(error, Error::Gap { .. }) {
            self.keep_position();
        }
        self.socket = None;
        if !error.is_passing() {
            return Err(error);
        }
        match self.backoff.next_wait(error.retry_after()) {
            Some(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            None => Err(error),
        }
    }
}
