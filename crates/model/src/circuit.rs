//! The circuit breaker: a model that fails again and again is left alone for a while, and then tried by one call.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use netra_context::memory::Scope;
use netra_protocol::id::UserId;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{ChatStream, Chunk, Error, ModelRef};

/// So many failures in a row open a circuit.
const FAILURES: u32 = 5;
/// How long a model is left alone.
const REST: Duration = Duration::from_secs(30);
/// A failure that is older is none in a row with a new one.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// How many circuits may have failures before old ones are looked for.
const SWEEP_EVERY: usize = 256;

/// A way to a model: with the server's key, or with a user's own, which may fail for reasons of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Circuit {
    pub(crate) model: ModelRef,
    pub(crate) key_of: Option<UserId>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Calls go through; the last so many have failed.
    Closed { failures: u32, last: Instant },
    /// No call goes through before then.
    Open { until: Instant },
    /// One call tries whether the model is back.
    Tried { since: Instant },
}

/// Every circuit that has failures. Clones share them.
#[derive(Debug, Default, Clone)]
pub(crate) struct Circuits(Arc<Mutex<HashMap<Circuit, State>>>);

/// What a call has shown of its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Works,
    Fails,
    Nothing,
}

/// Lets one call through. Dropped without a word, it has shown nothing.
#[derive(Debug)]
pub(crate) struct Pass {
    circuits: Circuits,
    circuit: Circuit,
    tries: bool,
    shown: Shown,
}

impl Circuits {
    /// Lets a call through, or says how long its model is left alone.
    pub(crate) fn enter(&self, circuit: Circuit) -> Result<Pass, Error> {
        let now = Instant::now();
        let mut states = self.0.lock();
        let tries = match states.get_mut(&circuit) {
            None | Some(State::Closed { .. }) => false,
            Some(State::Open { until }) if now < *until => {
                return Err(refusal(&circuit, *until - now));
            }
            // A call that tries and is slow does not hold the others up for longer than a rest.
            Some(State::Tried { since }) if now < *since + REST => {
                return Err(refusal(&circuit, *since + REST - now));
            }
            Some(state) => {
                *state = State::Tried { since: now };
                true
            }
        };
        drop(states);
        Ok(Pass {
            circuits: self.clone(),
            circuit,
            tries,
            shown: Shown::Nothing,
        })
    }

    /// The models that the server's own keys do not reach now.
    pub(crate) fn left_alone(&self) -> Vec<ModelRef> {
        let now = Instant::now();
        let states = self.0.lock();
        let open = states.iter().filter(|(circuit, state)| {
            let is_open = match state {
                State::Closed { .. } => false,
                // Nobody has tried since: nothing is known of it.
                State::Open { until } => now < *until,
                State::Tried { .. } => true,
            };
            circuit.key_of.is_none() && is_open
        });
        let mut models: Vec<ModelRef> = open.map(|(circuit, _)| circuit.model.clone()).collect();
        models.sort();
        models
    }

    fn works(&self, circuit: &Circuit) {
        if self.0.lock().remove(circuit).is_some() {
            tell_open(circuit, false);
        }
    }

    fn fails(&self, circuit: &Circuit) {
        let now = Instant::now();
        // The table is everybody's.
        let _system = Scope::system().enter();
        let mut states = self.0.lock();
        if states.len() >= SWEEP_EVERY {
            states.retain(|_, state| !state.is_forgotten(now));
        }
        let failures = match states.get(circuit) {
            Some(State::Closed { failures, last }) if now < *last + FORGOTTEN => failures + 1,
            None | Some(State::Closed { .. }) => 1,
            Some(State::Tried { .. }) => FAILURES,
            // A call from before.
            Some(State::Open { .. }) => return,
        };
        let state = if failures < FAILURES {
            State::Closed {
                failures,
                last: now,
            }
        } else {
            let (provider, model) = labels(circuit);
            tracing::warn!(
                provider,
                model,
                "a model fails again and again, and is left alone"
            );
            metrics::counter!("netra_model_circuits_opened_total", "provider" => provider, "model" => model)
                .increment(1);
            tell_open(circuit, true);
            State::Open { until: now + REST }
        };
        states.insert(circuit.clone(), state);
    }

    /// The call that tried has shown nothing: the next one tries.
    fn tried_for_nothing(&self, circuit: &Circuit) {
        let mut states = self.0.lock();
        if let Some(state @ State::Tried { .. }) = states.get_mut(circuit) {
            let until = Instant::now();
            *state = State::Open { until };
        }
    }
}

impl State {
    fn is_forgotten(&self, now: Instant) -> bool {
        match self {
            Self::Closed { last: at, .. }
            | Self::Open { until: at }
            | Self::Tried { since: at } => now >= *at + FORGOTTEN,
        }
    }
}

fn refusal(circuit: &Circuit, rest: Duration) -> Error {
    Error::CircuitOpen {
        model: circuit.model.to_string(),
        rest,
    }
}

fn labels(circuit: &Circuit) -> (String, String) {
    let ModelRef { provider, model } = circuit.model.clone();
    (provider, model)
}

/// Of the server's own keys alone: what fails with a user's is the user's.
fn tell_open(circuit: &Circuit, open: bool) {
    if circuit.key_of.is_none() {
        let (provider, model) = labels(circuit);
        metrics::gauge!("netra_model_circuit_open", "provider" => provider, "model" => model)
            .set(f64::from(u8::from(open)));
    }
}

impl Pass {
    /// The answer has begun. What the call has shown is known at its end: a model whose answers are always cut off fails.
    pub(crate) fn watch(self, stream: ChatStream) -> ChatStream {
        let pass = Some(self);
        Box::pin(Watched { stream, pass })
    }

    /// The answer has come to its end.
    fn works(mut self) {
        self.shown = Shown::Works;
    }

    /// The call has failed.
    pub(crate) fn failed(mut self, error: &Error) {
        self.shown = match error {
            Error::Overloaded { .. }
            | Error::Timeout { .. }
            | Error::Malformed { .. }
            | Error::Cut { .. }
            | Error::Unavailable { .. } => Shown::Fails,
            // Whoever refuses is there.
            Error::Unauthorized { .. }
            | Error::QuotaExhausted { .. }
            | Error::InvalidRequest { .. } => Shown::Works,
            Error::NotConfigured(_)
            | Error::CircuitOpen { .. }
            | Error::RateLimited { .. }
            | Error::DeadlineExceeded
            | Error::Cancelled
            | Error::NoRoom(_) => Shown::Nothing,
        };
    }
}

/// An answer that has begun, and what it will have shown.
struct Watched {
    stream: ChatStream,
    pass: Option<Pass>,
}

impl Stream for Watched {
    type Item = Result<Chunk, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.stream.as_mut().poll_next(cx);
        let shown = match &polled {
            Poll::Ready(Some(Ok(Chunk::Done(_)))) => Some(Ok(())),
            Poll::Ready(Some(Err(error))) => Some(Err(error)),
            Poll::Ready(Some(Ok(_)) | None) | Poll::Pending => None,
        };
        if let Some(shown) = shown
            && let Some(pass) = self.pass.take()
        {
            match shown {
                Ok(()) => pass.works(),
                Err(error) => pass.failed(error),
            }
        }
        polled
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        match self.shown {
            Shown::Works => self.circuits.works(&self.circuit),
            Shown::Fails => self.circuits.fails(&self.circuit),
            Shown::Nothing if self.tries => self.circuits.tried_for_nothing(&self.circuit),
            Shown::Nothing => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circuit(model: &str) -> Circuit {
        Circuit {
            model: model.parse().unwrap(),
            key_of: None,
        }
    }

    fn broken() -> Error {
        Error::Cut {
            provider: "p".into(),
        }
    }

    fn fail(circuits: &Circuits, model: &str, times: u32) {
        for _ in 0..times {
            circuits.enter(circuit(model)).unwrap().failed(&broken());
        }
    }

    fn rest(circuits: &Circuits, model: &str) -> Option<Duration> {
        match circuits.enter(circuit(model)) {
            Err(Error::CircuitOpen { rest, .. }) => Some(rest),
            _ => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn five_failures_in_a_row_open_the_circuit_of_their_model_for_half_a_minute() {
        let circuits = Circuits::default();
        fail(&circuits, "p/a", FAILURES);
        assert_eq!(rest(&circuits, "p/a"), Some(REST));
        assert_eq!(rest(&circuits, "p/b"), None);
        let own = Circuit {
            key_of: Some(UserId::from_parts(1, 1)),
            ..circuit("p/a")
        };
        assert!(circuits.enter(own).is_ok());
        assert_eq!(circuits.left_alone(), ["p/a".parse().unwrap()]);
        tokio::time::advance(REST - Duration::from_secs(1)).await;
        assert_eq!(rest(&circuits, "p/a"), Some(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(circuits.left_alone(), []);
        assert_eq!(rest(&circuits, "p/a"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_and_ten_minutes_end_a_row() {
        let circuits = Circuits::default();
        fail(&circuits, "p/a", FAILURES - 1);
        circuits.enter(circuit("p/a")).unwrap().works();
        fail(&circuits, "p/a", FAILURES - 1);
        assert_eq!(rest(&circuits, "p/a"), None);
        tokio::time::advance(FORGOTTEN).await;
        fail(&circuits, "p/a", FAILURES - 1);
        assert_eq!(rest(&circuits, "p/a"), None);
        fail(&circuits, "p/a", 1);
        assert_eq!(rest(&circuits, "p/a"), Some(REST));
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_rest_one_call_tries_and_decides() {
        let circuits = Circuits::default();
        fail(&circuits, "p/a", FAILURES);
        tokio::time::advance(REST).await;
        let tries = circuits.enter(circuit("p/a")).unwrap();
        assert_eq!(rest(&circuits, "p/a"), Some(REST));
        tries.failed(&broken());
        assert_eq!(rest(&circuits, "p/a"), Some(REST));
        tokio::time::advance(REST).await;
        circuits.enter(circuit("p/a")).unwrap().works();
        fail(&circuits, "p/a", FAILURES - 1);
        assert_eq!(rest(&circuits, "p/a"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_goes_away_leaves_the_try_to_the_next_and_counts_for_nothing() {
        let circuits = Circuits::default();
        for _ in 0..2 * FAILURES {
            drop(circuits.enter(circuit("p/a")).unwrap());
            let limited = Error::RateLimited {
                provider: "p".into(),
                retry_after: None,
            };
            circuits.enter(circuit("p/a")).unwrap().failed(&limited);
        }
        fail(&circuits, "p/a", FAILURES);
        tokio::time::advance(REST).await;
        drop(circuits.enter(circuit("p/a")).unwrap());
        circuits.enter(circuit("p/a")).unwrap().works();
    }
}
