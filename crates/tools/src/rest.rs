//! When a run comes to rest. Parts of a run that work side by side do not stop at one moment: whoever
//! wants to ask a person waits until no part works any more, so that nothing is cut off by the question,
//! and all questions of that moment are asked in one commit.

use netra_events::Emission;
use netra_store::{Ask, JournalEntry};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// What a person is to be asked.
pub(crate) struct Question {
    pub(crate) emission: Emission,
    pub(crate) entry: JournalEntry,
    pub(crate) ask: Ask,
}

/// How many parts of a run are at work, and what is to be asked when none is.
pub struct Rest {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    at_work: usize,
    questions: Vec<Question>,
    /// Somebody has taken the questions; the run begins nothing more.
    asked: bool,
}

impl Default for Rest {
    /// Of a run with one part at work: its own agent.
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                at_work: 1,
                questions: Vec::new(),
                asked: false,
            }),
            changed: Notify::new(),
        }
    }
}

impl Rest {
    /// So many parts work beside those that do now.
    pub fn begun(&self, more: usize) {
        self.state.lock().at_work += more;
    }

    /// One part has done its work, and others beside it have not.
    pub fn ended(&self) {
        let mut state = self.state.lock();
        state.at_work = state.at_work.saturating_sub(1);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Rests until no part works any more. Whoever is first then gets all questions, to ask them;
    /// for the others there is nothing left to do.
    pub(crate) async fn with(&self, question: Option<Question>) -> Option<Vec<Question>> {
        {
            let mut state = self.state.lock();
            state.questions.extend(question);
            state.at_work = state.at_work.saturating_sub(1);
        }
        self.changed.notify_waiters();
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let mut state = self.state.lock();
                if state.at_work == 0 {
                    let first = !std::mem::replace(&mut state.asked, true);
                    return first.then(|| std::mem::take(&mut state.questions));
                }
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn who_asks_waits_for_those_at_work_and_one_asks_for_all() {
        let rest = Rest::default();
        rest.begun(2);
        let mut one = std::pin::pin!(rest.with(None));
        let mut other = std::pin::pin!(rest.with(None));
        assert!(poll!(one.as_mut()).is_pending());
        assert!(poll!(other.as_mut()).is_pending(), "a third one works");
        rest.ended();
        assert!(other.await.is_some(), "the first to look asks");
        assert!(one.await.is_none(), "and nobody else");
    }

    #[tokio::test]
    async fn an_agent_that_works_alone_asks_at_once() {
        assert!(Rest::default().with(None).await.is_some());
    }
}
