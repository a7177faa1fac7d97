//! This node's connections to Redis, which come and go: others are heard on one, and spoken to on the other.
//!
//! The link is up as long as the node hears what it says itself, which tells of both directions at once. What was said
//! while it was down nobody has heard: whoever listens looks into the log then.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error as Failure, ErrorKind};
use fred::interfaces::{ClientLike as _, EventInterface as _, PubsubInterface as _};
use fred::types::{ConnectHandle, Message};
use netra_context::Runtime;
use netra_context::runtime::TaskKind;
use netra_protocol::id::UserId;
use parking_lot::Mutex;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};

use super::address::{ANSWER, Redis};
use super::seal::Seal;
use super::word::{self, About, Content, Word};
use crate::log::{Entry, Fanout};
use crate::node::NodeId;
use crate::revoked::{Revocation, Revocations};

/// Between two words that a node says to itself.
const BEAT: Duration = Duration::from_secs(1);
/// The link is down where none of them has come back for so long.
const SILENCE: Duration = Duration::from_secs(3);
/// Between two tries to connect: at first, and at the most.
const SOON: Duration = Duration::from_millis(100);
const LATE: Duration = Duration::from_secs(5);
/// Words that may wait to be sent, of at most about [`word::MOST_BYTES`]; further ones are lost.
const WORDS: usize = 512;
/// Words that are sent at once.
const AT_ONCE: usize = 64;

/// Of what the link is a part.
pub(crate) struct Place {
    pub(crate) node: NodeId,
    /// Names the installation's log.
    pub(crate) epoch: String,
    pub(crate) seal: Seal,
    pub(crate) fanout: Arc<dyn Fanout>,
    pub(crate) news: watch::Sender<u64>,
    pub(crate) revocations: Arc<Revocations>,
}

/// The connections of a node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link(Arc<Shared>);

struct Shared {
    redis: Redis,
    place: Place,
    channel: String,
    words: mpsc::Sender<Vec<u8>>,
    is_up: AtomicBool,
    state: Mutex<State>,
    failed: Notify,
}

/// What the link is, as it was last said.
enum State {
    Up(Client),
    Down(String),
}

/// What drives a connection, ended when this is dropped.
struct Driver(ConnectHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// However the task ends, the link is down from then on.
struct Down(Arc<Shared>);

impl Drop for Down {
    fn drop(&mut self) {
        self.0.is_up.store(false, Ordering::Release);
    }
}

impl Link {
    /// Keeps a link from now on, until the runtime's tasks are to end.
    pub(crate) fn start(redis: Redis, runtime: &Runtime, place: Place) -> Self {
        let (words, mut waiting) = mpsc::channel(WORDS);
        let link = Self(Arc::new(Shared {
            channel: format!("netra:{}:words", place.epoch),
            redis,
            place,
            words,
            is_up: AtomicBool::new(false),
            state: Mutex::new(State::Down("it was not reached yet".into())),
            failed: Notify::new(),
        }));
        metrics::gauge!("netra_redis_up").set(0.0);
        let (shared, shutdown) = (Arc::clone(&link.0), runtime.shutdown().clone());
        runtime.spawn(TaskKind::Sweep, async move {
            let _down = Down(Arc::clone(&shared));
            let kept = shared.keep(&mut waiting);
            shutdown.run_until_cancelled(kept).await;
        });
        link
    }

    /// Whether what is said now is likely to be heard.
    pub(crate) fn is_up(&self) -> bool {
        self.0.is_up.load(Ordering::Acquire)
    }

    /// Why it is not up.
    pub(crate) fn problem(&self) -> Option<String> {
        match &*self.0.state.lock() {
            State::Up(_) => None,
            State::Down(why) => Some(why.clone()),
        }
    }

    /// Who carries commands out; none while the link is down.
    pub(super) fn client(&self) -> Option<Client> {
        match &*self.0.state.lock() {
            State::Up(client) => Some(client.clone()).filter(|_| self.is_up()),
            State::Down(_) => None,
        }
    }

    /// What a command has answered, in time; where it has not, the link is down until it is made anew. The driver's futures are
    /// large: they come boxed.
    pub(super) async fn answer<T>(
        &self,
        asked: impl Future<Output = Result<T, Failure>>,
    ) -> Option<T> {
        let began = Instant::now();
        let answered = timeout(ANSWER, asked).await;
        metrics::histogram!("netra_redis_answer_seconds").record(began.elapsed());
        if let Ok(Ok(answer)) = answered {
            return Some(answer);
        }
        if self.0.is_up.swap(false, Ordering::AcqRel) {
            self.0.failed.notify_one();
        }
        None
    }

    /// What the installation's name is in keys.
    pub(crate) fn epoch(&self) -> &str {
        &self.0.place.epoch
    }

    pub(crate) fn seal(&self) -> &Seal {
        &self.0.place.seal
    }

    /// Says that these events of a user are committed.
    pub(crate) fn say_log(&self, user: UserId, through: u64, entries: &[Arc<Entry>]) {
        let about = About::Log { user, through };
        self.0.say(about, || word::written(entries));
    }

    /// Says that runs are to be looked at.
    pub(crate) fn say_runs(&self) {
        self.0.say(About::Runs, || Some(Vec::new()));
    }

    /// Says what was revoked.
    pub(crate) fn say_revoked(&self, revocation: &Revocation) {
        let number = revocation.number;
        let words = || Some(revocation.words().into_bytes());
        self.0.say(About::Revoked { number }, words);
    }
}

impl Shared {
    /// Never waits: a word for which there is no room is lost, and found in the log a second later.
    fn say(&self, about: About, content: impl FnOnce() -> Option<Vec<u8>>) {
        if !self.is_up.load(Ordering::Acquire) {
            return;
        }
        let (seal, node) = (&self.place.seal, self.place.node);
        let word = content().and_then(|content| word::say(seal, node, about, &content));
        if word.is_none_or(|word| self.words.try_send(word).is_err()) {
            metrics::counter!("netra_node_words_lost_total").increment(1);
        }
    }

    async fn keep(&self, words: &mut mpsc::Receiver<Vec<u8>>) {
        let mut pause = SOON;
        loop {
            let Err(failure) = self.connected(words).await;
            if self.falls(&failure) {
                pause = SOON;
            }
            // What waits was said to a link that is gone.
            while words.try_recv().is_ok() {
                metrics::counter!("netra_node_words_lost_total").increment(1);
            }
            sleep(pause).await;
            pause = (pause * 2).min(LATE);
        }
    }

    /// As long as both connections work.
    async fn connected(&self, words: &mut mpsc::Receiver<Vec<u8>>) -> Result<Infallible, Failure> {
        let (mouth, ears) = (self.redis.client()?, self.redis.client()?);
        let heard = ears.message_rx();
        let _drivers = (connect(&mouth).await?, connect(&ears).await?);
        ears.subscribe(self.channel.as_str()).await?;
        tokio::select! {
            ended = self.speak(&mouth, words) => ended,
            ended = self.hear(heard, &mouth) => ended,
            () = self.failed.notified() => Err(failure("a command failed")),
        }
    }

    /// Says what waits, and now and then something to itself.
    async fn speak(
        &self,
        mouth: &Client,
        words: &mut mpsc::Receiver<Vec<u8>>,
    ) -> Result<Infallible, Failure> {
        let mut beats = interval(BEAT);
        let mut said = Vec::with_capacity(AT_ONCE);
        loop {
            tokio::select! {
                _ = beats.tick() => {
                    let (seal, node) = (&self.place.seal, self.place.node);
                    said.extend(word::say(seal, node, About::Beat, &[]));
                }
                count = words.recv_many(&mut said, AT_ONCE) => {
                    let count = count as u64;
                    metrics::counter!("netra_node_words_total", "carrier" => "redis").increment(count);
                }
            }
            let pipeline = mouth.pipeline();
            for word in said.drain(..) {
                let () = pipeline.publish(self.channel.as_str(), &*word).await?;
            }
            let sent = timeout(ANSWER, pipeline.all::<Vec<i64>>()).await;
            sent.map_err(|_| failure("no answer"))??;
        }
    }

    async fn hear(
        &self,
        mut heard: Receiver<Message>,
        mouth: &Client,
    ) -> Result<Infallible, Failure> {
        let mut echoed = Instant::now();
        loop {
            let message = tokio::select! {
                message = heard.recv() => message,
                () = sleep_until(echoed + SILENCE) => {
                    return Err(failure("what is said does not come back"));
                }
            };
            match message {
                Ok(message) => {
                    if message.value.as_bytes().is_some_and(|word| self.take(word)) {
                        echoed = Instant::now();
                        self.rises(mouth);
                    }
                }
                Err(RecvError::Lagged(_)) => self.lost_track(),
                Err(RecvError::Closed) => return Err(failure("the connection was closed")),
            }
        }
    }

    /// Takes a word, and gives whether it is this node's own.
    fn take(&self, bytes: &[u8]) -> bool {
        let Some(word) = Word::read(bytes) else {
            refused();
            return false;
        };
        let is_own = word.from == self.place.node;
        let is_wanted = match word.about {
            About::Beat => is_own,
            About::Runs | About::Revoked { .. } => !is_own,
            About::Log { user, .. } => !is_own && self.place.fanout.listens(user),
        };
        if !is_wanted {
            return false;
        }
        let Some(content) = word.open(&self.place.seal) else {
            refused();
            return false;
        };
        if word.about == About::Beat {
            return true;
        }
        metrics::counter!("netra_node_words_heard_total", "carrier" => "redis").increment(1);
        match (word.about, content) {
            (About::Log { user, through }, Content::Entries(entries)) if entries.is_empty() => {
                self.place.fanout.elsewhere(user, through);
            }
            (_, Content::Entries(entries)) => self.place.fanout.heard(&entries),
            (_, Content::Revocation(revocation)) => self.place.revocations.heard(&revocation),
            (_, Content::Nothing) => self.ring(),
        }
        false
    }

    fn rises(&self, mouth: &Client) {
        {
            let mut state = self.state.lock();
            if matches!(*state, State::Up(_)) {
                return;
            }
            *state = State::Up(mouth.clone());
        }
        self.is_up.store(true, Ordering::Release);
        metrics::gauge!("netra_redis_up").set(1.0);
        tracing::info!(redis = %self.redis, "Redis carries what nodes say to each other");
        self.lost_track();
    }

    /// Gives whether it was up.
    fn falls(&self, failure: &Failure) -> bool {
        metrics::counter!("netra_redis_failures_total").increment(1);
        self.is_up.store(false, Ordering::Release);
        let why = failure.to_string();
        let before = std::mem::replace(&mut *self.state.lock(), State::Down(why.clone()));
        let was_up = matches!(before, State::Up(_));
        if was_up {
            metrics::gauge!("netra_redis_up").set(0.0);
            tracing::warn!(redis = %self.redis, problem = why, "Redis is not reached: nodes tell each other by the database");
        } else if !matches!(before, State::Down(known) if known == why) {
            tracing::warn!(redis = %self.redis, problem = why, "Redis is still not reached");
        }
        was_up
    }

    /// What others have said meanwhile nobody has heard.
    fn lost_track(&self) {
        self.place.fanout.lost_track();
        self.ring();
    }

    fn ring(&self) {
        let news = &self.place.news;
        news.send_modify(|news| *news = news.wrapping_add(1));
    }
}

/// Connects, and gives what drives the connection.
async fn connect(client: &Client) -> Result<Driver, Failure> {
    let mut driver = Driver(client.connect());
    let connected = async {
        tokio::select! {
            connected = client.wait_for_connect() => connected,
            ended = &mut driver.0 => match ended {
                Ok(Err(error)) => Err(error),
                _ => Err(failure("the connection was closed")),
            },
        }
    };
    let connected = timeout(super::address::CONNECT, connected).await;
    connected.map_err(|_| failure("no connection in time"))??;
    Ok(driver)
}

fn failure(why: &'static str) -> Failure {
    Failure::new(ErrorKind::IO, why)
}

fn refused() {
    metrics::counter!("netra_node_words_refused_total").increment(1);
}
