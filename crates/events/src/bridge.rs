//! The factory of emitters and subscriptions.

use std::sync::Arc;
use std::time::Duration;

use netra_context::{Runtime, UserExecutionContext};
use netra_protocol::id::RunId;
use netra_protocol::run::Run;
use netra_store::{Readable, Store, Writable};

use crate::Error;
use crate::emitter::UserWebSocketEmitter;
use crate::filter::Filter;
use crate::hub::Hub;
use crate::subscription::Subscription;

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// After the event with this number; 0 for all.
    After(u64),
    /// After what is there now.
    Now,
}

/// Makes emitters for runs and subscriptions for sockets. Shared and immutable.
#[derive(Clone)]
pub struct WebSocketBridgeFactory {
    runtime: Runtime,
    store: Store,
    hub: Arc<Hub>,
}

impl WebSocketBridgeFactory {
    /// Over the store that was opened with this hub.
    pub fn new(runtime: &Runtime, store: Store, hub: Arc<Hub>) -> Self {
        Self {
            runtime: runtime.clone(),
            store,
            hub,
        }
    }

    /// What one run emits with. Owned by its engine.
    pub fn create_emitter(&self, run: &Writable<Run>) -> UserWebSocketEmitter {
        UserWebSocketEmitter::new(self.runtime.clone(), self.store.clone(), run.clone())
    }

    /// The user's events from `start` on.
    ///
    /// # Errors
    /// `CursorExpired` where the log cannot be read from there.
    pub async fn subscribe(
        &self,
        ctx: &UserExecutionContext,
        start: Start,
        epoch: Option<&str>,
        filter: Filter,
    ) -> Result<Subscription, Error> {
        let user = ctx.user_id().ok_or(netra_store::Error::NotFound)?;
        let bounds = self.store.log_bounds(ctx).await?;
        let after = match start {
            Start::Now => bounds.latest_seq,
            Start::After(after) => after,
        };
        let other_log = epoch.is_some_and(|epoch| epoch != self.store.epoch());
        let too_old = after != 0 && after.saturating_add(1) < bounds.oldest_seq;
        if other_log || too_old || after > bounds.latest_seq {
            return Err(Error::CursorExpired {
                epoch: self.store.epoch().to_owned(),
                oldest_seq: bounds.oldest_seq,
                latest_seq: bounds.latest_seq,
            });
        }
        let mailbox = self.hub.open(user, filter);
        let ctx = ctx.child("subscription");
        Ok(Subscription::new(
            ctx,
            self.store.clone(),
            mailbox,
            after,
            bounds.latest_seq,
        ))
    }

    /// The run when it has ended, or as it is when the time is up, the server drains, or the
    /// context is cancelled.
    ///
    /// # Errors
    /// `Store` when the run cannot be read.
    pub async fn wait_run(
        &self,
        ctx: &UserExecutionContext,
        id: RunId,
        timeout: Duration,
    ) -> Result<Readable<Run>, Error> {
        let user = ctx.user_id().ok_or(netra_store::Error::NotFound)?;
        let mailbox = self.hub.open(
            user,
            Filter {
                deltas: false,
                ..Filter::run(id)
            },
        );
        let end = tokio::time::Instant::now() + timeout;
        loop {
            // The mailbox was opened first, so an end after this read is seen below.
            let run = self.store.run(ctx, id).for_read().await?;
            if run.status.is_terminal() {
                return Ok(run);
            }
            if !self.await_end(ctx, &mailbox, end).await {
                return Ok(run);
            }
        }
    }

    /// True when the run has ended or the mailbox has lost track of it.
    async fn await_end(
        &self,
        ctx: &UserExecutionContext,
        mailbox: &crate::hub::OpenMailbox,
        end: tokio::time::Instant,
    ) -> bool {
        loop {
            tokio::select! {
                () = mailbox.arrived() => match mailbox.take() {
                    crate::mailbox::Taken::Lagging => {
                        mailbox.reopen();
                        return true;
                    }
                    crate::mailbox::Taken::Entries { entries, .. } => {
                        if entries.iter().any(|entry| entry.kind.is_terminal()) {
                            return true;
                        }
                    }
                },
                () = tokio::time::sleep_until(end) => return false,
                () = ctx.cancel_token().cancelled() => return false,
                () = self.runtime.shutdown().cancelled() => return false,
            }
        }
    }

    /// Events that were about to reach somebody else than their user, and were stopped: 0, unless
    /// there is a defect.
    pub fn foreign_events(&self) -> u64 {
        self.hub.foreign_events()
    }

    /// Open subscriptions and waits over all users.
    pub fn mailboxes(&self) -> usize {
        self.hub.mailboxes()
    }
}
