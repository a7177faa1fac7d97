//! What the instance of a tool server says of itself that serves one user: it may have other tools than another one.

use std::collections::HashMap;
use std::sync::Arc;

use netra_protocol::id::UserId;

use crate::registry::{InvalidTool, Registry};
use crate::shelf::{Shelf, Source, source_of};
use crate::tool::Tool;

/// The instance that serves a user at a source. What it says holds for that user until this is dropped, or another
/// instance serves the user there.
pub struct Voice {
    registry: Arc<Registry>,
    user: UserId,
    source: String,
    number: u64,
}

impl Voice {
    pub(crate) fn new(registry: &Arc<Registry>, user: UserId, source: &str) -> Self {
        let number = registry.said().lock().begin(user, source);
        Self {
            registry: Arc::clone(registry),
            user,
            source: source.to_owned(),
            number,
        }
    }

    /// Puts these tools in the place of what the source has for everybody. Names what cannot be taken.
    pub fn say(&self, tools: Vec<Arc<dyn Tool>>) -> Vec<InvalidTool> {
        let (source, refused) = Source::here(&self.source, tools);
        self.registry.said().lock().put(self, source);
        refused
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        self.registry.said().lock().end(self);
    }
}

/// What has been said, by user. For each there are a few at most.
#[derive(Default)]
pub(crate) struct Said {
    of_users: HashMap<UserId, Vec<Word>>,
    voices: u64,
}

/// What one voice has said.
struct Word {
    number: u64,
    source: String,
    /// None as long as it has said nothing.
    shelf: Option<Shelf>,
}

impl Said {
    fn begin(&mut self, user: UserId, source: &str) -> u64 {
        self.voices += 1;
        let words = self.of_users.entry(user).or_default();
        words.retain(|word| word.source != source);
        words.push(Word {
            number: self.voices,
            source: source.to_owned(),
            shelf: None,
        });
        self.voices
    }

    /// Nothing, where another instance serves the user now.
    fn put(&mut self, voice: &Voice, source: Source) {
        let words = self.of_users.get_mut(&voice.user);
        let mut words = words.into_iter().flatten();
        if let Some(word) = words.find(|word| word.number == voice.number) {
            word.shelf = Some(source.into());
        }
    }

    fn end(&mut self, voice: &Voice) {
        if let Some(words) = self.of_users.get_mut(&voice.user) {
            words.retain(|word| word.number != voice.number);
            if words.is_empty() {
                self.of_users.remove(&voice.user);
            }
        }
    }

    /// All that has been said for this user.
    pub(crate) fn of(&self, user: Option<UserId>) -> impl Iterator<Item = &Shelf> {
        let words = user.and_then(|user| self.of_users.get(&user));
        let words = words.into_iter().flatten();
        words.filter_map(|word| word.shelf.as_ref())
    }

    /// What has been said for this user by the source that a tool of this name would come from.
    pub(crate) fn about(&self, user: Option<UserId>, name: &str) -> Option<&Shelf> {
        let source = source_of(name)?;
        self.of(user).find(|shelf| shelf.has_source(source))
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.of_users.is_empty()
    }
}
