//! Clients that look on: over a WebSocket or over SSE, of everything or of a part, patient or not.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;
use netra_client::{Backoff, Error, Feed, Incoming, Method, Socket};
use netra_protocol::ErrorCode;
use netra_protocol::frame::{After, ServerFrame, Subscribe};
use netra_protocol::id::{RunId, ThreadId};
use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::list::{List, without_prev};
use crate::world::World;

/// A connection on which nothing came for so long may be half-open: it is given up.
const SILENCE: Duration = Duration::from_secs(3);
/// How long connecting may take.
const ATTEMPT: Duration = Duration::from_secs(5);
/// An event of so many bytes is much to read.
const MUCH: usize = 12_000;
/// Between two attempts.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

/// How a client looks on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The client library's feed, which connects again by itself.
    Feed,
    /// One WebSocket after the other.
    Socket,
    /// SSE of all the user's events.
    Stream,
    /// SSE of one run, to its end.
    Run(RunId),
}

/// What a client does besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Takes what comes.
    Quick,
    /// Now and then forgets everything but its cursor.
    Restarts,
    /// Reads little and late.
    Slow,
}

/// Which events it wants.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) threads: Option<Vec<ThreadId>>,
    pub(crate) deltas: bool,
}

/// One client, its list, and the cursor that is all it keeps over a restart.
pub(crate) struct Watcher {
    pub(crate) world: Arc<World>,
    pub(crate) person: usize,
    pub(crate) way: Way,
    pub(crate) habit: Habit,
    pub(crate) wish: Wish,
    pub(crate) random: StdRng,
    /// Once it is known: the last event that is to come.
    pub(crate) goal: watch::Receiver<Option<u64>>,
    pub(crate) list: List,
    pub(crate) cursor: Option<u64>,
}

impl Watcher {
    /// Looks on until everything has come. A defect of the server is noted, and ends it.
    pub(crate) async fn watch(mut self) -> Self {
        while !self.has_all() {
            let life = match self.way {
                Way::Feed => Box::pin(self.feed()).await,
                Way::Socket => Box::pin(self.socket()).await,
                Way::Stream | Way::Run(_) => self.stream().await,
            };
            if let Err(error) = life.or_else(|error| self.world.outage(error)) {
                self.world.fault(format!("{}: {error:#}", self.name()));
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        self
    }

    /// For reports.
    pub(crate) fn name(&self) -> String {
        let (user, way, habit) = (self.person, self.way, self.habit);
        format!("user {user}, {way:?}, {habit:?}")
    }

    fn has_all(&self) -> bool {
        match self.way {
            Way::Run(_) => self.list.has_ended(),
            _ => self
                .goal
                .borrow()
                .is_some_and(|goal| self.list.last() >= goal),
        }
    }

    fn subscribe(&self) -> Subscribe {
        Subscribe {
            after: After::Seq(self.cursor.unwrap_or(0)),
            epoch: Some(self.world.epoch.clone()),
            threads: self.wish.threads.clone(),
            deltas: self.wish.deltas,
        }
    }

    /// Takes an event; what was sent before it must be what came before it.
    fn take(&mut self, frame: &str, sent: Option<u64>) -> Result<u64> {
        let (prev, stored) = without_prev(frame)?;
        if let Some(sent) = sent {
            ensure!(prev == sent, "after {sent} came an event with prev {prev}");
        }
        self.list.take(&stored)?;
        self.cursor = Some(self.list.last());
        self.world.counts.delivered.add(1);
        Ok(self.list.last())
    }

    /// What it does after so many bytes: whether it goes on.
    async fn go_on(&mut self, bytes: usize) -> bool {
        if self.goal.borrow().is_some() {
            return true;
        }
        match self.habit {
            Habit::Quick => true,
            Habit::Restarts => {
                let restart = self.random.random_ratio(1, 150);
                self.world.counts.restarts.add(u64::from(restart));
                !restart
            }
            Habit::Slow => {
                // The more there is to read, the sooner it falls asleep.
                let pause = match self.random.random_range(0..100) {
                    0..20 if bytes > MUCH => 4_000,
                    0 => 4_000,
                    1..4 => 300,
                    _ => return true,
                };
                // In the end there is no time for it.
                let hurry = self.goal.changed();
                timeout(Duration::from_millis(pause), hurry).await.ok();
                true
            }
        }
    }

    async fn feed(&mut self) -> Result<()> {
        let client = self.world.people[self.person].client.clone();
        let opening = Box::pin(Feed::open(&client, self.subscribe()));
        let Some(feed) = attempt(opening).await? else {
            return Ok(());
        };
        let longest = Duration::from_millis(500);
        let patience = Duration::from_secs(600);
        let mut feed = feed.with_backoff(Backoff::new(PAUSE, longest, patience));
        while !self.has_all() {
            tokio::select! {
                next = timeout(SILENCE, Box::pin(feed.next_event())) => match next {
                    Ok(received) => {
                        // The feed checks what was sent before, over all its sockets.
                        let text = received?.text;
                        self.take(&text, None)?;
                        if !self.go_on(text.len()).await {
                            return Ok(());
                        }
                    }
                    Err(_) => feed.interrupt(),
                },
                changed = self.goal.changed() => changed.context("the goal comes")?,
            }
        }
        Ok(())
    }

    async fn socket(&mut self) -> Result<()> {
        let client = self.world.people[self.person].client.clone();
        let Some(mut socket) = attempt(Box::pin(Socket::connect(&client))).await? else {
            return Ok(());
        };
        let subscribing = Box::pin(socket.subscribe(self.subscribe()));
        let Some(subscribed) = attempt(subscribing).await? else {
            return Ok(());
        };
        let mut sent = subscribed.after;
        while !self.has_all() {
            let next = tokio::select! {
                next = timeout(SILENCE, socket.next_incoming()) => next,
                changed = self.goal.changed() => {
                    changed.context("the goal comes")?;
                    continue;
                }
            };
            let mut bytes = 0;
            match next {
                Err(_) => return Ok(()),
                Ok(Ok(Incoming::Event(received))) => {
                    bytes = received.text.len();
                    sent = self.take(&received.text, Some(sent))?;
                }
                Ok(Ok(Incoming::Frame(ServerFrame::Position { seq }))) => {
                    ensure!(seq >= sent, "the position went back from {sent} to {seq}");
                    (sent, self.cursor) = (seq, Some(seq));
                }
                Ok(Ok(Incoming::Frame(ServerFrame::Error { error, .. })))
                    if self.world.may_lack_database
                        && error.code == ErrorCode::StoreUnavailable =>
                {
                    return Ok(());
                }
                Ok(Ok(Incoming::Frame(frame))) => bail!("the server said {frame:?}"),
                Ok(Err(error @ Error::Gap { .. })) => return Err(error.into()),
                Ok(Err(error)) => return passing(error),
            }
            if !self.go_on(bytes).await {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn stream(&mut self) -> Result<()> {
        let client = self.world.people[self.person].client.clone();
        let path = match self.way {
            Way::Run(run) => format!("/api/runs/{run}/events"),
            _ => "/api/events".to_owned(),
        };
        let query = [("deltas", self.wish.deltas.to_string())];
        let mut request = client.request(Method::GET, &path).query(&query);
        // All of a user's events begin now unless something else is asked for.
        let cursor = match self.way {
            Way::Run(_) => self.cursor,
            _ => Some(self.cursor.unwrap_or(0)),
        };
        if let Some(seq) = cursor {
            request = request.header("last-event-id", format!("{}:{seq}", self.world.epoch));
        }
        let Some(answer) = attempt(client.send(request)).await? else {
            return Ok(());
        };
        ensure!(
            answer.status() == 200,
            "the server answered {} and the run's last event did not come",
            answer.status()
        );
        let (mut body, mut text) = (answer.bytes_stream(), Vec::new());
        let mut sent = cursor;
        while !self.has_all() {
            let piece = tokio::select! {
                piece = timeout(SILENCE, body.next()) => piece,
                changed = self.goal.changed(), if !matches!(self.way, Way::Run(_)) => {
                    changed.context("the goal comes")?;
                    continue;
                }
            };
            // Silence, the end, or a break: the next life goes on behind the cursor.
            let Ok(Some(Ok(piece))) = piece else {
                return Ok(());
            };
            text.extend_from_slice(&piece);
            while let Some(block) = next_block(&mut text) {
                self.read_block(&block, &mut sent)?;
                if !self.go_on(block.len()).await {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// One block of the stream: an event, a position, or a comment.
    fn read_block(&mut self, block: &str, sent: &mut Option<u64>) -> Result<()> {
        let field = |name: &str| {
            let mut lines = block.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        if field("event") == Some("error") {
            ensure!(
                self.world.may_lack_database && block.contains("store_unavailable"),
                "the stream said {block}"
            );
            return Ok(());
        }
        let Some(id) = field("id") else {
            return Ok(());
        };
        let (epoch, seq) = id.rsplit_once(':').context("an id without its log")?;
        ensure!(epoch == self.world.epoch, "another log: {id}");
        let seq: u64 = seq.parse()?;
        if let Some(data) = field("data") {
            let taken = self.take(data, *sent)?;
            ensure!(taken == seq, "event {taken} has the id {id}");
        }
        (*sent, self.cursor) = (Some(seq), Some(seq));
        Ok(())
    }
}

/// Takes the next whole block off the front.
fn next_block(text: &mut Vec<u8>) -> Option<String> {
    let end = text.windows(2).position(|pair| pair == b"\n\n")?;
    let block = text.drain(..end + 2).collect::<Vec<_>>();
    Some(String::from_utf8_lossy(&block[..end]).into_owned())
}

/// What came of an attempt; none where another one may succeed.
async fn attempt<T>(attempt: impl Future<Output = Result<T, Error>>) -> Result<Option<T>> {
    match timeout(ATTEMPT, attempt).await {
        Err(_) => Ok(None),
        Ok(Ok(made)) => Ok(Some(made)),
        Ok(Err(error)) => passing(error).map(|()| None),
    }
}

/// Nothing for what a bad network or a dying server may do; everything else is a defect.
pub(crate) fn passing(error: Error) -> Result<()> {
    // Of a refused WebSocket the status is sure to come, the body perhaps not.
    let down = error.status() == Some(503)
        || matches!(
            error.code(),
            Some(ErrorCode::Draining | ErrorCode::Overloaded | ErrorCode::StoreUnavailable)
        );
    let broken = matches!(
        error,
        Error::Unreachable(_)
            | Error::Closed {
                code: 1001 | 1006 | 4008,
                ..
            }
    );
    if down || broken {
        Ok(())
    } else {
        Err(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_whole_however_the_body_was_cut() {
        let mut text = b"id: e:1\ndata: x\n\n: keep-alive\n\nid:".to_vec();
        assert_eq!(next_block(&mut text).as_deref(), Some("id: e:1\ndata: x"));
        assert_eq!(next_block(&mut text).as_deref(), Some(": keep-alive"));
        assert_eq!(next_block(&mut text), None);
        assert_eq!(text, b"id:");
    }
}
