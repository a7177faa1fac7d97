//! Answers that are given again: to the same user, for the same request to the same model, for as long as the agent
//! says. In memory alone; of each user no more than a share, so that nobody's answers push out everybody else's.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use netra_context::UserExecutionContext;
use netra_context::memory::Scope;
use netra_protocol::id::UserId;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::{ChatRequest, Chunk, ModelRef, StopReason};

/// One part in as many is the most that one user's answers take.
const SHARES: u64 = 8;
/// One part in as many of a share is the most that one answer takes.
const ANSWERS: u64 = 8;
/// What an answer takes besides its text: its keys, and its places in the tables.
const OVERHEAD: u64 = 512;

type Hash = [u8; 32];

/// By what an answer is found: user, model and the whole request, in one hash.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key {
    user: UserId,
    hash: Hash,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// None where no user asks.
    pub fn of(ctx: &UserExecutionContext, model: &ModelRef, request: &ChatRequest) -> Option<Self> {
        let user = ctx.user_id()?;
        let mut hash = Sha256::new();
        hash.update(user.to_bytes());
        for part in [&model.provider, &model.model] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut hash = Hashed(hash);
        serde_json::to_writer(&mut hash, request).ok()?;
        hash.flush().ok()?;
        Some(Self {
            user,
            hash: hash.0.finalize().into(),
        })
    }

    /// One hash of user, model and the whole request.
    pub fn hash(&self) -> &[u8; 32] {
        &self.hash
    }
}

struct Hashed(Sha256);

impl std::io::Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The answers of all users.
pub(crate) struct Cache {
    limit: u64,
    shelves: Mutex<Shelves>,
}

#[derive(Default)]
struct Shelves {
    by_user: HashMap<UserId, Shelf>,
    bytes: u64,
    turn: u64,
}

/// The answers of one user.
#[derive(Default)]
struct Shelf {
    answers: HashMap<Hash, Kept>,
    /// By when they were last wanted.
    order: BTreeMap<u64, Hash>,
    bytes: u64,
}

struct Kept {
    chunks: Arc<[Chunk]>,
    bytes: u64,
    until: Instant,
    turn: u64,
}

impl Cache {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            shelves: Mutex::default(),
        }
    }

    /// Whether anything is kept at all.
    pub(crate) fn is_on(&self) -> bool {
        self.limit > 0
    }

    /// The answer of this key.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<[Chunk]>> {
        let mut shelves = self.shelves.lock();
        shelves.turn += 1;
        let turn = shelves.turn;
        let shelf = shelves.by_user.get_mut(&key.user)?;
        let kept = shelf.answers.get_mut(&key.hash)?;
        if kept.until <= Instant::now() {
            shelves.remove(key.user, &key.hash);
            return None;
        }
        shelf.order.remove(&kept.turn);
        kept.turn = turn;
        shelf.order.insert(turn, key.hash);
        Some(Arc::clone(&kept.chunks))
    }

    /// Keeps a whole answer. One that is large, or was cut, is not kept.
    pub(crate) fn put(&self, key: Key, chunks: &[Chunk], time: Duration) {
        let share = self.limit / SHARES;
        let bytes = OVERHEAD + chunks.iter().map(bytes_of).sum::<u64>();
        let Some(until) = Instant::now().checked_add(time) else {
            return;
        };
        if bytes > share / ANSWERS || !is_whole(chunks) {
            return;
        }
        // It outlives the run, and may go at any time: it is the server's.
        let _system = Scope::system().enter();
        let chunks: Arc<[Chunk]> = chunks.into();
        let mut shelves = self.shelves.lock();
        shelves.turn += 1;
        let turn = shelves.turn;
        shelves.remove(key.user, &key.hash);
        while shelves.of(key.user) + bytes > share {
            shelves.remove_oldest(key.user);
        }
        while shelves.bytes + bytes > self.limit {
            let Some(user) = shelves.largest() else { break };
            shelves.remove_oldest(user);
        }
        shelves.bytes += bytes;
        let shelf = shelves.by_user.entry(key.user).or_default();
        shelf.bytes += bytes;
        shelf.order.insert(turn, key.hash);
        let kept = Kept {
            chunks,
            bytes,
            until,
            turn,
        };
        shelf.answers.insert(key.hash, kept);
        metrics::gauge!("netra_model_cache_bytes").set(shelves.bytes as f64);
    }
}

impl Shelves {
    fn of(&self, user: UserId) -> u64 {
        self.by_user.get(&user).map_or(0, |shelf| shelf.bytes)
    }

    fn largest(&self) -> Option<UserId> {
        let largest = self.by_user.iter().max_by_key(|(_, shelf)| shelf.bytes);
        largest.map(|(user, _)| *user)
    }

    fn remove_oldest(&mut self, user: UserId) {
        let shelf = self.by_user.get(&user);
        let oldest = shelf.and_then(|shelf| shelf.order.values().next().copied());
        if let Some(hash) = oldest {
            self.remove(user, &hash);
        }
    }

    fn remove(&mut self, user: UserId, hash: &Hash) {
        let Some(shelf) = self.by_user.get_mut(&user) else {
            return;
        };
        if let Some(kept) = shelf.answers.remove(hash) {
            shelf.order.remove(&kept.turn);
            shelf.bytes -= kept.bytes;
            self.bytes -= kept.bytes;
        }
        if shelf.answers.is_empty() {
            self.by_user.remove(&user);
        }
    }
}

fn bytes_of(chunk: &Chunk) -> u64 {
    let text = match chunk {
        Chunk::Text(text) | Chunk::Thinking(text) => text.len(),
        // Values take more than their text.
        Chunk::ToolCall(call) => {
            call.id.len() + call.name.len() + 4 * call.arguments.to_text().len()
        }
        Chunk::Done(done) => {
            let keepsake = done.keepsake.as_ref();
            keepsake.map_or(0, |kept| 4 * kept.value.to_string().len())
        }
    };
    (size_of::<Chunk>() + text) as u64
}

/// Whether the model has said all that it wanted to.
pub(crate) fn is_whole(chunks: &[Chunk]) -> bool {
    let Some(Chunk::Done(done)) = chunks.last() else {
        return false;
    };
    matches!(done.stop, StopReason::Stop | StopReason::ToolCalls)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Done, Message};

    const HOUR: Duration = Duration::from_secs(3_600);
    const MIB: u64 = 1024 * 1024;

    fn key(user: u128, hash: u8) -> Key {
        Key {
            user: UserId::from_parts(1, user),
            hash: [hash; 32],
        }
    }

    fn answer(text: &str) -> Vec<Chunk> {
        let done = Done {
            usage: None,
            stop: StopReason::Stop,
            keepsake: None,
        };
        vec![Chunk::Text(text.into()), Chunk::Done(done)]
    }

    fn text(cache: &Cache, key: Key) -> Option<String> {
        match cache.get(&key)?.first() {
            Some(Chunk::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_kept_for_its_time_and_for_its_user() {
        let cache = Cache::new(MIB);
        cache.put(key(1, 1), &answer("mine"), HOUR);
        assert_eq!(text(&cache, key(1, 1)).as_deref(), Some("mine"));
        assert_eq!(text(&cache, key(2, 1)), None);
        assert_eq!(text(&cache, key(1, 2)), None);
        tokio::time::advance(HOUR - Duration::from_millis(1)).await;
        assert!(text(&cache, key(1, 1)).is_some());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(text(&cache, key(1, 1)), None);
        assert_eq!(cache.shelves.lock().bytes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_pushes_out_their_own_answers_and_nobody_elses() {
        let cache = Cache::new(MIB);
        cache.put(key(2, 0), &answer("other"), HOUR);
        let large = "x".repeat(15_000);
        for hash in 0..100 {
            cache.put(key(1, hash), &answer(&large), HOUR);
            // The first is wanted again and again, and stays.
            assert!(text(&cache, key(1, 0)).is_some());
        }
        assert_eq!(text(&cache, key(1, 1)), None);
        assert!(text(&cache, key(1, 99)).is_some());
        assert!(text(&cache, key(2, 0)).is_some());
        let shelves = cache.shelves.lock();
        assert!(shelves.of(UserId::from_parts(1, 1)) <= MIB / SHARES);
        assert_eq!(
            shelves.bytes,
            shelves
                .by_user
                .values()
                .map(|shelf| shelf.bytes)
                .sum::<u64>()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn all_users_together_keep_to_the_limit() {
        let cache = Cache::new(MIB);
        let large = "x".repeat(15_000);
        for user in 0..20 {
            for hash in 0..8 {
                cache.put(key(user, hash), &answer(&large), HOUR);
            }
        }
        let bytes = cache.shelves.lock().bytes;
        assert!((MIB / 2..=MIB).contains(&bytes), "{bytes}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_large_or_cut_is_not_kept() {
        let cache = Cache::new(MIB);
        cache.put(key(1, 1), &answer(&"x".repeat(20_000)), HOUR);
        let mut cut = answer("so far");
        cut.pop();
        cache.put(key(1, 2), &cut, HOUR);
        cut.push(Chunk::Done(Done {
            usage: None,
            stop: StopReason::MaxTokens,
            keepsake: None,
        }));
        cache.put(key(1, 3), &cut, HOUR);
        assert_eq!(cache.shelves.lock().bytes, 0);
    }

    #[test]
    fn every_part_of_a_call_makes_another_key() {
        let runtime = netra_context::Runtime::new();
        let ctx = |user| {
            let principal = netra_context::Principal {
                user_id: UserId::from_parts(1, user),
                role: netra_protocol::account::Role::User,
                plan: netra_protocol::account::Plan::Free,
                groups: Arc::default(),
                rights: netra_context::Rights::NONE,
                limits: Arc::default(),
                session: None,
            };
            UserExecutionContext::for_test(&runtime, principal)
        };
        let said = |text: &str| ChatRequest {
            messages: vec![Message::user(text)],
            ..ChatRequest::default()
        };
        let of = |user, model: &str, request: &ChatRequest| {
            Key::of(&ctx(user), &model.parse().unwrap(), request)
                .unwrap()
                .hash
        };
        let warm = ChatRequest {
            temperature: Some(1.0),
            ..said("a")
        };
        let keys = [
            of(1, "p/m", &said("a")),
            of(2, "p/m", &said("a")),
            of(1, "p/n", &said("a")),
            of(1, "pp/m", &said("a")),
            of(1, "p/m", &said("b")),
            of(1, "p/m", &warm),
        ];
        let different: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
        assert_eq!(of(1, "p/m", &said("a")), keys[0]);
    }
}
