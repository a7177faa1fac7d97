//! Calls that fail before their answer begins: what is tried again, when, and what is left alone. The clock stands
//! still and is moved; chance comes from a seed.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _};
use netra_context::{BackgroundKind, Runtime, UserExecutionContext};
use netra_model::scripted::{Answer, ScriptedModel};
use netra_model::{ChatRequest, Chunk, Config, Error, ModelRef, Models, Retry, Witness};
use parking_lot::Mutex;
use tokio::time::Instant;

/// What was told, in order.
#[derive(Debug, Clone, PartialEq)]
enum Told {
    Begins,
    Failed(Error),
    /// The next try and the pause before it.
    Retries(u32, Duration),
}

#[derive(Default)]
struct Heard(Mutex<Vec<Told>>);

#[async_trait]
impl Witness for Heard {
    fn begins(&self) {
        self.0.lock().push(Told::Begins);
    }

    fn failed(&self, error: &Error) {
        self.0.lock().push(Told::Failed(error.clone()));
    }

    async fn retries(&self, retry: Retry<'_>) {
        let told = Told::Retries(retry.attempt, retry.pause);
        self.0.lock().push(told);
    }
}

struct Bench {
    script: Arc<ScriptedModel>,
    models: Models,
    ctx: UserExecutionContext,
    heard: Heard,
}

impl Bench {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        let script = Arc::new(ScriptedModel::new("p", answers));
        let models = Models::new(Config::default()).unwrap();
        Self {
            models: models.with(script.clone()).with_jitter(7),
            script,
            ctx: UserExecutionContext::for_background(&Runtime::new(), BackgroundKind::Console),
            heard: Heard::default(),
        }
    }

    async fn call(&self) -> Result<Vec<Result<Chunk, Error>>, Error> {
        let (model, request): (ModelRef, _) = ("p/m".parse().unwrap(), ChatRequest::default());
        let call = self.models.call(&self.ctx, &model, &request, &self.heard);
        Ok(call.await?.collect().await)
    }

    fn calls(&self) -> usize {
        self.script.requests().len()
    }

    fn pauses(&self) -> Vec<(u32, Duration)> {
        let heard = self.heard.0.lock();
        let pauses = heard.iter().filter_map(|told| match told {
            Told::Retries(next, pause) => Some((*next, *pause)),
            Told::Begins | Told::Failed(_) => None,
        });
        pauses.collect()
    }

    /// What was told without the pauses.
    fn tries(&self) -> Vec<Told> {
        let mut heard = self.heard.0.lock().clone();
        heard.retain(|told| !matches!(told, Told::Retries(..)));
        heard
    }
}

fn limited(seconds: Option<u64>) -> Error {
    Error::RateLimited {
        provider: "p".into(),
        retry_after: seconds.map(Duration::from_secs),
    }
}

fn unavailable() -> Error {
    Error::Unavailable {
        provider: "p".into(),
        reason: "no connection".into(),
        sent: false,
    }
}

fn text(chunks: &[Result<Chunk, Error>]) -> String {
    let text = chunks.iter().filter_map(|chunk| match chunk {
        Ok(Chunk::Text(text)) => Some(text.as_str()),
        _ => None,
    });
    text.collect()
}

#[tokio::test(start_paused = true)]
async fn what_may_go_better_is_tried_again_after_pauses_that_grow() {
    let refusals = [unavailable(), limited(None)].map(Answer::refuse);
    let bench = Bench::new(refusals.into_iter().chain([Answer::new().text("hi")]));
    let began = Instant::now();
    assert_eq!(text(&bench.call().await.unwrap()), "hi");
    assert_eq!(bench.calls(), 3);
    let pauses = bench.pauses();
    assert_eq!(
        pauses.iter().map(|(next, _)| *next).collect::<Vec<_>>(),
        [2, 3]
    );
    let (first, second) = (pauses[0].1.as_millis(), pauses[1].1.as_millis());
    assert!(
        (250..=500).contains(&first) && (500..=1_000).contains(&second),
        "{pauses:?}"
    );
    // All that passed is the pauses, up to the timer's millisecond each.
    let passed = began.elapsed().as_millis();
    assert!(
        (first + second..=first + second + 4).contains(&passed),
        "{passed}"
    );

    // The same seed draws the same pauses.
    let again = Bench::new([unavailable(), limited(None)].map(Answer::refuse));
    again.call().await.unwrap_err();
    assert_eq!(again.pauses()[..2], pauses);
}

#[tokio::test(start_paused = true)]
async fn after_three_tries_the_last_error_stands() {
    let bench = Bench::new([1, 1, 1, 1].map(|_| Answer::refuse(unavailable())));
    assert_eq!(bench.call().await.unwrap_err(), unavailable());
    assert_eq!((bench.calls(), bench.pauses().len()), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn the_time_that_the_provider_asks_for_passes_where_the_call_has_it() {
    let bench = Bench::new([Answer::refuse(limited(Some(40))), Answer::new().text("hi")]);
    let began = Instant::now();
    bench.call().await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(40));
    // A call has two minutes by default: nobody waits for three to be told the same.
    let bench = Bench::new([Answer::refuse(limited(Some(180)))]);
    let began = Instant::now();
    assert_eq!(bench.call().await.unwrap_err(), limited(Some(180)));
    assert_eq!((bench.calls(), began.elapsed()), (1, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn what_would_fail_again_is_not_tried_again() {
    for error in [
        Error::NotConfigured("no".into()),
        Error::Unauthorized {
            provider: "p".into(),
            status: 401,
        },
        Error::QuotaExhausted {
            provider: "p".into(),
        },
        Error::InvalidRequest {
            provider: "p".into(),
            status: 400,
            code: None,
            param: None,
        },
    ] {
        let bench = Bench::new([Answer::refuse(error.clone())]);
        assert_eq!(bench.call().await.unwrap_err(), error);
        assert_eq!(bench.calls(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn once_the_answer_has_begun_nothing_is_tried_again() {
    let bench = Bench::new([Answer::new().text("half").error(unavailable())]);
    let chunks = bench.call().await.unwrap();
    assert_eq!(text(&chunks), "half");
    assert_eq!(chunks.last().unwrap().clone().unwrap_err(), unavailable());
    assert_eq!(bench.calls(), 1);
    // A stream that fails before its first chunk has not begun.
    let bench = Bench::new([
        Answer::new().error(unavailable()),
        Answer::new().text("whole"),
    ]);
    assert_eq!(text(&bench.call().await.unwrap()), "whole");
    assert_eq!(bench.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn each_try_is_told_when_it_begins_and_when_it_fails_and_what_is_no_try_is_not() {
    let bench = Bench::new([Answer::refuse(unavailable()), Answer::new().text("hi")]);
    bench.call().await.unwrap();
    let failed = Told::Failed(unavailable());
    let expected = [Told::Begins, failed.clone(), Told::Begins];
    assert_eq!(bench.tries(), expected);
    // A circuit that has opened lets nothing through: three tries here, and two there.
    let bench = Bench::new([(); 5].map(|()| Answer::refuse(unavailable())));
    for _ in 0..3 {
        bench.call().await.unwrap_err();
    }
    let five = [(); 5].map(|()| [Told::Begins, failed.clone()]).concat();
    assert_eq!(bench.tries(), five);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_ends_a_pause() {
    let bench = Bench::new([Answer::refuse(limited(Some(60)))]);
    let cancel = bench.ctx.cancel_token().clone();
    let began = Instant::now();
    let (outcome, ()) = tokio::join!(bench.call(), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        cancel.cancel();
    });
    assert_eq!(outcome.unwrap_err(), Error::Cancelled);
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(
        bench.tries(),
        [Told::Begins, Told::Failed(limited(Some(60)))]
    );
}

#[tokio::test(start_paused = true)]
async fn a_model_that_fails_again_and_again_is_left_alone_and_then_tried_once() {
    let failures = [(); 7].map(|()| Answer::refuse(unavailable()));
    let bench = Bench::new(failures.into_iter().chain([Answer::new().text("back")]));
    assert_eq!(bench.call().await.unwrap_err(), unavailable());
    // The fifth failure is this call's second, and its third try finds the circuit open.
    let open = bench.call().await.unwrap_err();
    assert!(matches!(open, Error::CircuitOpen { .. }), "{open:?}");
    assert_eq!(bench.calls(), 5);
    assert!(matches!(bench.call().await, Err(Error::CircuitOpen { .. })));
    assert_eq!(bench.calls(), 5);
    // One call tries, fails, and the model is left alone again.
    tokio::time::advance(Duration::from_secs(30)).await;
    assert!(matches!(bench.call().await, Err(Error::CircuitOpen { .. })));
    assert_eq!(bench.calls(), 6);
    tokio::time::advance(Duration::from_secs(30)).await;
    assert!(bench.call().await.is_err());
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(text(&bench.call().await.unwrap()), "back");
    assert!(
        bench
            .call()
            .await
            .is_err_and(|error| !matches!(error, Error::CircuitOpen { .. }))
    );
}

#[tokio::test(start_paused = true)]
async fn a_model_whose_answers_are_always_cut_off_after_their_first_piece_is_left_alone() {
    let cut = Error::Cut {
        provider: "p".into(),
    };
    let answers = [(); 6].map(|()| Answer::new().text("a").error(cut.clone()));
    let bench = Bench::new(answers.into_iter().chain([
        Answer::new().text("b").hang(),
        Answer::new().text("whole"),
        Answer::new().text("a").error(cut.clone()),
        Answer::new().text("whole"),
    ]));
    for _ in 0..5 {
        let chunks = bench.call().await.unwrap();
        assert_eq!(chunks.last(), Some(&Err(cut.clone())));
    }
    assert!(matches!(bench.call().await, Err(Error::CircuitOpen { .. })));
    assert_eq!(bench.calls(), 5);
    // The call that tries is cut off as well.
    tokio::time::advance(Duration::from_secs(30)).await;
    bench.call().await.unwrap();
    assert!(matches!(bench.call().await, Err(Error::CircuitOpen { .. })));
    // The next one is given up before its end, and has shown nothing: another one tries.
    tokio::time::advance(Duration::from_secs(30)).await;
    assert!(bench.call().now_or_never().is_none());
    assert_eq!(text(&bench.call().await.unwrap()), "whole");
    // A whole answer between two that are cut off makes no row of them.
    bench.call().await.unwrap();
    assert_eq!(text(&bench.call().await.unwrap()), "whole");
}
