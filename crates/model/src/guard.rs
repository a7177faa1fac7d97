//! The only path of a call: whatever the provider does, it ends by the limit, the deadline and
//! the cancel of its context, and its stream ends in exactly one way.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use netra_context::UserExecutionContext;

use crate::{ChatStream, Chunk, Error};

/// Until when a call may go on, and which error says that it may not.
#[derive(Clone)]
pub(crate) struct Bounds {
    provider: String,
    started: Instant,
    end: Option<Instant>,
    beyond: Error,
    cancel: CancellationToken,
}

impl Bounds {
    /// The earlier of the context's deadline and `fallback_ms`, or the user's own limit on calls
    /// where the context has a user.
    pub(crate) fn new(ctx: &UserExecutionContext, provider: &str, fallback_ms: u64) -> Self {
        let limit_ms = ctx
            .limits()
            .map_or(fallback_ms, |limits| limits.model_call_ms);
        let started = Instant::now();
        let limit = started.checked_add(Duration::from_millis(limit_ms));
        let timeout = Error::Timeout {
            provider: provider.to_owned(),
            limit_ms,
        };
        let (end, beyond) = match (ctx.deadline(), limit) {
            (Some(deadline), Some(limit)) if limit < deadline => (Some(limit), timeout),
            (Some(deadline), _) => (Some(deadline), Error::DeadlineExceeded),
            (None, limit) => (limit, timeout),
        };
        let cancel = ctx.cancel_token().clone();
        Self {
            provider: provider.to_owned(),
            started,
            end,
            beyond,
            cancel,
        }
    }

    /// The same for another try, which counts from now.
    pub(crate) fn again(&self) -> Self {
        Self {
            started: Instant::now(),
            ..self.clone()
        }
    }

    /// Whether something is left after a pause.
    pub(crate) fn outlast(&self, pause: Duration) -> bool {
        let after = Instant::now().checked_add(pause);
        match (after, self.end) {
            (Some(after), Some(end)) => after < end,
            (after, None) => after.is_some(),
            (None, Some(_)) => false,
        }
    }

    /// Waits, unless the call is no longer wanted.
    pub(crate) async fn pause(&self, pause: Duration) -> Result<(), Error> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Error::Cancelled),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }

    /// Waits for the provider to begin, within the bounds, and puts its stream under them.
    pub(crate) async fn hold(
        self,
        begin: impl Future<Output = Result<ChatStream, Error>>,
    ) -> Result<ChatStream, Error> {
        let outcome = Outcome {
            provider: self.provider,
            started: self.started,
            told: false,
        };
        // A far end stands for none; the sleep is never reached.
        let far = || Instant::now() + Duration::from_secs(60 * 60 * 24 * 365);
        let mut end = Box::pin(tokio::time::sleep_until(self.end.unwrap_or_else(far)));
        let begun = tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Error::Cancelled),
            () = &mut end => Err(self.beyond.clone()),
            begun = begin => begun,
        };
        let mut guarded = Guarded {
            stream: None,
            cancelled: Box::pin(self.cancel.cancelled_owned()),
            end,
            beyond: self.beyond,
            outcome,
            first: true,
        };
        match begun {
            Ok(stream) => {
                guarded.stream = Some(stream);
                Ok(Box::pin(guarded))
            }
            Err(error) => {
                guarded.outcome.tell(error.outcome());
                Err(error)
            }
        }
    }
}

/// A provider's stream under the bounds of its call.
struct Guarded {
    stream: Option<ChatStream>,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
    end: Pin<Box<Sleep>>,
    beyond: Error,
    outcome: Outcome,
    first: bool,
}

impl Guarded {
    /// Ends the stream, and with it the connection.
    fn fail(&mut self, error: Error) -> Poll<Option<Result<Chunk, Error>>> {
        self.stream = None;
        self.outcome.tell(error.outcome());
        Poll::Ready(Some(Err(error)))
    }
}

impl Stream for Guarded {
    type Item = Result<Chunk, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.stream.is_none() {
            return Poll::Ready(None);
        }
        // Before the stream: one that always has something must not outlive its bounds.
        if this.cancelled.as_mut().poll(cx).is_ready() {
            return this.fail(Error::Cancelled);
        }
        if this.end.as_mut().poll(cx).is_ready() {
            let beyond = this.beyond.clone();
            return this.fail(beyond);
        }
        let Some(stream) = this.stream.as_mut() else {
            return Poll::Ready(None);
        };
        match stream.as_mut().poll_next(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(chunk))) => {
                if std::mem::take(&mut this.first) {
                    this.outcome.first_chunk();
                }
                if matches!(chunk, Chunk::Done(_)) {
                    this.stream = None;
                    this.outcome.tell("ok");
                }
                Poll::Ready(Some(Ok(chunk)))
            }
            Poll::Ready(Some(Err(error))) => this.fail(error),
            Poll::Ready(None) => {
                let provider = this.outcome.provider.clone();
                this.fail(Error::Cut { provider })
            }
        }
    }
}

/// Counts each call once, by how it ended.
struct Outcome {
    provider: String,
    started: Instant,
    told: bool,
}

impl Outcome {
    fn first_chunk(&self) {
        let provider = self.provider.clone();
        metrics::histogram!("netra_model_first_chunk_seconds", "provider" => provider)
            .record(self.started.elapsed().as_secs_f64());
    }

    fn tell(&mut self, outcome: &'static str) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let provider = self.provider.clone();
        metrics::histogram!("netra_model_call_seconds", "provider" => provider.clone())
            .record(self.started.elapsed().as_secs_f64());
        metrics::counter!("netra_model_calls_total", "provider" => provider, "outcome" => outcome)
            .increment(1);
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        self.tell("dropped");
    }
}
