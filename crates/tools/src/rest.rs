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
    questions: Vec<(u64, Question)>,
    /// The number of the last question.
    last: u64,
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
                last: 0,
                asked: false,
            }),
            changed: Notify::new(),
        }
    }
}

impl Rest {
    /// So many parts work beside those that do now. False where a person has been asked already: then the
    /// run begins nothing more, and these do not either.
    #[must_use]
    pub fn begun(&self, more: usize) -> bool {
        let mut state = self.state.lock();
        if !state.asked {
            state.at_work += more;
        }
        !state.asked
    }

    /// So many parts have done their work, and others beside them have not.
    pub fn ended(&self, parts: usize) {
        let mut state = self.state.lock();
        state.at_work = state.at_work.saturating_sub(parts);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Whether a person has been asked: then the run waits, and begins nothing more.
    pub fn is_asked(&self) -> bool {
        self.state.lock().asked
    }

    /// Rests until another part of the run has come so far. None where a person has been asked before that.
    pub async fn until<T>(&self, other: impl Future<Output = T>) -> Option<T> {
        let resting = self.resting();
        let asked = self.when(|state| state.asked.then_some(()));
        tokio::select! {
            biased;
            () = asked => {
                resting.for_good();
                None
            }
            value = other => Some(value),
        }
    }

    /// Rests until no part works any more. Whoever is first then gets all questions, to ask them;
    /// for the others there is nothing left to do.
    pub(crate) async fn with(&self, question: Option<Question>) -> Option<Vec<Question>> {
        let mut resting = self.resting();
        if let Some(question) = question {
            let mut state = self.state.lock();
            state.last += 1;
            resting.question = Some(state.last);
            let numbered = (state.last, question);
            state.questions.push(numbered);
        }
        let questions = self.when(|state| {
            // Once one has asked, the others have nothing left to do, whoever is dropped meanwhile.
            (state.asked || state.at_work == 0).then(|| {
                let first = !std::mem::replace(&mut state.asked, true);
                first.then(|| std::mem::take(&mut state.questions))
            })
        });
        let questions = questions.await;
        resting.for_good();
        self.changed.notify_waiters();
        questions.map(|all| all.into_iter().map(|(_, question)| question).collect())
    }

    /// Waits until the state gives something.
    async fn when<T>(&self, of: impl Fn(&mut State) -> Option<T>) -> T {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(found) = of(&mut self.state.lock()) {
                return found;
            }
            changed.await;
        }
    }

    fn resting(&self) -> Resting<'_> {
        self.ended(1);
        Resting {
            rest: self,
            question: None,
            wakes: true,
        }
    }
}

/// A part that rests. Dropped, it works again, or whoever let go of it does; what it wanted to ask is asked
/// no more.
struct Resting<'a> {
    rest: &'a Rest,
    question: Option<u64>,
    wakes: bool,
}

impl Resting<'_> {
    /// A person has been asked: nothing works any more.
    fn for_good(mut self) {
        self.wakes = false;
    }
}

impl Drop for Resting<'_> {
    fn drop(&mut self) {
        let mut state = self.rest.state.lock();
        if self.wakes && !state.asked {
            state.at_work += 1;
            state
                .questions
                .retain(|(number, _)| Some(*number) != self.question);
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
        assert!(rest.begun(2));
        let mut one = std::pin::pin!(rest.with(None));
        let mut other = std::pin::pin!(rest.with(None));
        assert!(poll!(one.as_mut()).is_pending());
        assert!(poll!(other.as_mut()).is_pending(), "a third one works");
        rest.ended(1);
        assert!(other.await.is_some(), "the first to look asks");
        assert!(one.await.is_none(), "and nobody else");
        assert!(!rest.begun(1), "nothing begins any more");
    }

    #[tokio::test]
    async fn an_agent_that_works_alone_asks_at_once() {
        assert!(Rest::default().with(None).await.is_some());
    }

    #[tokio::test]
    async fn a_question_that_was_let_go_of_keeps_nobody_from_asking() {
        let rest = Rest::default();
        assert!(rest.begun(1));
        {
            let mut dropped = std::pin::pin!(rest.with(None));
            assert!(poll!(dropped.as_mut()).is_pending());
        }
        let mut asks = std::pin::pin!(rest.with(None));
        assert!(
            poll!(asks.as_mut()).is_pending(),
            "who let go of it works still"
        );
        rest.ended(1);
        assert!(asks.await.is_some());
    }

    #[tokio::test]
    async fn who_lets_go_of_a_question_that_was_asked_leaves_nobody_behind() {
        let rest = Rest::default();
        assert!(rest.begun(3));
        let mut asks = std::pin::pin!(rest.with(None));
        let mut rests = std::pin::pin!(rest.with(None));
        let mut dropped = Box::pin(rest.with(None));
        assert!(poll!(asks.as_mut()).is_pending());
        assert!(poll!(rests.as_mut()).is_pending());
        assert!(poll!(dropped.as_mut()).is_pending());
        rest.ended(1);
        assert!(asks.await.is_some());
        drop(dropped);
        assert!(poll!(rests.as_mut()).is_ready(), "the run waits");
    }

    #[tokio::test]
    async fn who_waits_for_another_part_works_on_after_it_or_rests_for_good() {
        let rest = Rest::default();
        assert_eq!(rest.until(async { 7 }).await, Some(7));
        assert!(rest.begun(1));
        let mut waits = std::pin::pin!(rest.until(std::future::pending::<()>()));
        assert!(poll!(waits.as_mut()).is_pending());
        assert!(rest.with(None).await.is_some(), "nobody else works");
        assert_eq!(waits.await, None);
    }
}
