//! What the frames of a client do.

use netra_context::{Right, UserExecutionContext};
use netra_events::{Filter, Start};
use netra_protocol::ErrorCode;
use netra_protocol::frame::{After, ClientFrame, RunCancel, RunStart, Subscribe};
use netra_protocol::id::RequestId;
use serde_json::{Map, Value, json};

use super::{Socket, no_fields};
use crate::auth::verifier::Presented;
use crate::error::Error;
use crate::extract::IdempotencyKey;
use crate::overload;
use crate::routes::events::MAX_THREADS;
use crate::routes::{approvals, runs};

/// How a frame is answered when it was carried out.
pub(super) enum Done {
    Ack(Map<String, Value>),
    Pong,
    Nothing,
}

fn fields<const N: usize>(pairs: [(&str, Value); N]) -> Done {
    Done::Ack(
        pairs
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

fn require(ctx: &UserExecutionContext, right: Right) -> Result<(), Error> {
    if ctx.may(right) {
        Ok(())
    } else {
        Err(Error::forbidden())
    }
}

impl Socket {
    /// Carries a frame out, as a request of its own.
    pub(super) async fn carry_out(
        &mut self,
        frame: ClientFrame,
        request_id: RequestId,
    ) -> Result<Done, Error> {
        let ctx = self.context(request_id);
        match frame {
            ClientFrame::RunStart(start) => self.run_start(&ctx, start).await,
            ClientFrame::RunCancel(RunCancel { run_id }) => {
                runs::cancel(&self.gateway, &ctx, run_id).await?;
                Ok(fields([("run_id", json!(run_id))]))
            }
            ClientFrame::ApprovalRespond(respond) => {
                let (store, id) = (&self.gateway.store, respond.approval_id);
                let approval = store.approval(&ctx, id).for_write().await?;
                approvals::resolve(&self.gateway, &ctx, &approval, respond.answer).await?;
                Ok(fields([("approval_id", json!(id))]))
            }
            ClientFrame::Subscribe(subscribe) => self.subscribe(&ctx, subscribe).await,
            ClientFrame::Delivered(_) => {
                metrics::counter!("netra_delivered_frames_total").increment(1);
                Ok(Done::Nothing)
            }
            ClientFrame::AuthRefresh(refresh) => self.refresh(&refresh.token).await,
            ClientFrame::Ping(_) => Ok(Done::Pong),
        }
    }

    async fn run_start(
        &mut self,
        ctx: &UserExecutionContext,
        frame: RunStart,
    ) -> Result<Done, Error> {
        require(ctx, Right::Run)?;
        overload::check(&self.gateway, true)?;
        let RunStart {
            thread_id,
            idempotency_key,
            start,
        } = frame;
        let (thread, operation) = match thread_id {
            Some(id) => {
                let thread = self.gateway.store.thread(ctx, id).for_write().await?;
                (Some(thread), format!("run_create:{id}"))
            }
            None => (None, "run_create".to_owned()),
        };
        let key = IdempotencyKey::from_field(idempotency_key)?.of(operation, &start)?;
        let run = runs::start(&self.gateway, ctx, thread, start, key).await?;
        Ok(fields([
            ("run_id", json!(run.id)),
            ("thread_id", json!(run.thread_id)),
        ]))
    }

    async fn subscribe(
        &mut self,
        ctx: &UserExecutionContext,
        subscribe: Subscribe,
    ) -> Result<Done, Error> {
        let Subscribe {
            after,
            epoch,
            threads,
            deltas,
        } = subscribe;
        if threads
            .as_ref()
            .is_some_and(|threads| threads.len() > MAX_THREADS)
        {
            return Err(Error::invalid("`threads` has at most 1000 ids.")
                .breaks("threads", "maxItems 1000"));
        }
        let filter = Filter {
            threads: threads.map(|threads| threads.into_iter().collect()),
            run: None,
            deltas,
        };
        let start = match after {
            After::Now => Start::Now,
            After::Seq(seq) => Start::After(seq),
        };
        let bridge = &self.gateway.bridge;
        let subscription = bridge
            .subscribe(ctx, start, epoch.as_deref(), filter)
            .await?;
        let done = fields([
            ("epoch", json!(subscription.epoch)),
            ("after", json!(subscription.after)),
            ("latest_seq", json!(subscription.latest_seq)),
        ]);
        self.subscription = Some(subscription);
        Ok(done)
    }

    async fn refresh(&mut self, token: &str) -> Result<Done, Error> {
        let passed = self.gateway.verifier.verify(Presented::of(token)).await?;
        let verified = passed.verified;
        if verified.principal.user_id != self.verified.principal.user_id {
            let message = "A socket goes on with a token of the same user only.";
            return Err(Error::new(ErrorCode::Forbidden, message));
        }
        // The subscription goes on, so who goes on has to be one who may read.
        if !verified.principal.rights.contains(Right::Read) {
            return Err(Error::forbidden());
        }
        self.verified = verified;
        self.expiry = self.verified.expiry(self.gateway.runtime.now());
        Ok(Done::Ack(no_fields()))
    }
}
