//! What a server does now and then: deletes what is past its time, and folds the logs of ended runs.

use std::time::Duration;

use netra_context::runtime::TaskKind;
use netra_context::{BackgroundKind, Runtime, UserExecutionContext};
use netra_store::{Error, Left, Store};

const DAY_MS: i64 = 24 * 3_600 * 1_000;

#[derive(Debug, Clone, Copy)]
enum Chore {
    /// Deletes what is past its time; events after so many days, none: with their thread.
    Expire { events_days: Option<u32> },
    /// Folds the pieces of ended runs' messages.
    Fold,
    /// Deletes what is left of users who have left.
    Erase,
}

/// Starts all, for as long as the server runs.
pub(crate) fn start(runtime: &Runtime, store: &Store, events_days: Option<u32>) {
    for chore in [Chore::Expire { events_days }, Chore::Fold, Chore::Erase] {
        let (shutdown, store) = (runtime.shutdown().clone(), store.clone());
        let ctx = UserExecutionContext::for_background(runtime, BackgroundKind::Sweep);
        runtime.spawn(TaskKind::Sweep, async move {
            let mut turns = tokio::time::interval(chore.period());
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    _ = turns.tick() => {}
                }
                match chore.carry_out(&store, &ctx).await {
                    Ok(0) => {}
                    Ok(deleted) => {
                        tracing::info!(?chore, deleted, "deleted what was past its time")
                    }
                    Err(error) => tracing::warn!(?chore, %error, "all stays for now"),
                }
            }
        });
    }
}

impl Chore {
    const fn period(self) -> Duration {
        match self {
            Self::Expire { .. } => Duration::from_secs(3_600),
            Self::Fold | Self::Erase => Duration::from_secs(60),
        }
    }

    async fn carry_out(self, store: &Store, ctx: &UserExecutionContext) -> Result<usize, Error> {
        match self {
            Self::Fold => store.fold(ctx).await,
            Self::Erase => {
                let mut gone = 0;
                for user in store.users_leaving(ctx).await? {
                    // What cannot be deleted now holds nobody else up, and is tried again at the next turn.
                    match store.user_erase(ctx, user).await {
                        Ok(left) => gone += usize::from(left == Left::Gone),
                        // Deleted by the request in which the user left.
                        Err(Error::NotFound) => {}
                        Err(error) => {
                            tracing::warn!(user.id = %user, %error, "is not all deleted yet");
                        }
                    }
                }
                Ok(gone)
            }
            Self::Expire { events_days: None } => store.sweep(ctx).await,
            Self::Expire {
                events_days: Some(days),
            } => {
                let before = ctx.runtime().now().plus_millis(-i64::from(days) * DAY_MS);
                Ok(store.sweep(ctx).await? + store.expire(ctx, before).await?)
            }
        }
    }
}
