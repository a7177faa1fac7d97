//! Access tokens: where they come from, when they end, and how the next one is had.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _, Shared, TryFutureExt as _};
use netra_protocol::account::Tokens;
use tokio::time::{Instant, timeout};

use crate::client::{ANSWER, Client};
use crate::error::Error;

/// A token is renewed so long before its end; a short one at the half of its life.
const LONGEST_MARGIN: Duration = Duration::from_secs(60);

/// An access token, and how long it is good where that is known.
#[derive(Clone)]
pub struct Access {
    token: String,
    life: Option<Duration>,
}

impl Access {
    /// A token that is good until the server refuses it.
    pub fn new(token: impl Into<String>) -> Self {
        Self {
            token: token.into(),
            life: None,
        }
    }

    /// It ends after so long, from now.
    #[must_use]
    pub fn lasting(self, life: Duration) -> Self {
        Self {
            life: Some(life),
            ..self
        }
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access")
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}

/// Gives access tokens: at first, before the last one ends, and when the last one was refused.
///
/// Any function that gives a future is one.
pub trait TokenSource: Send + Sync + 'static {
    /// A token other than the last one.
    fn renew(&self) -> BoxFuture<'static, Result<Access, Error>>;
}

impl<F, R> TokenSource for F
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = Result<Access, Error>> + Send + 'static,
{
    fn renew(&self) -> BoxFuture<'static, Result<Access, Error>> {
        self().boxed()
    }
}

/// A source of the program's own. All who share the credentials wait for it, so it has a limit, as
/// the server has for a refresh.
pub(crate) struct Limited<S>(pub(crate) S);

impl<S: TokenSource> TokenSource for Limited<S> {
    fn renew(&self) -> BoxFuture<'static, Result<Access, Error>> {
        let renewal = timeout(ANSWER, self.0.renew());
        let late = |late| Err(Error::Unreachable(Box::new(late)));
        renewal.map(move |came| came.unwrap_or_else(late)).boxed()
    }
}

/// Trades refresh tokens at the server. Each can be used once, so the next one is kept and told.
pub(crate) struct RefreshToken {
    pub(crate) server: Client,
    pub(crate) current: Arc<Mutex<String>>,
    pub(crate) told: Arc<dyn Fn(&Tokens) + Send + Sync>,
}

impl TokenSource for RefreshToken {
    fn renew(&self) -> BoxFuture<'static, Result<Access, Error>> {
        let (server, told) = (self.server.clone(), Arc::clone(&self.told));
        let current = Arc::clone(&self.current);
        let renewal = async move {
            let used = locked(&current).clone();
            let tokens = server.refresh(&used).await?;
            locked(&current).clone_from(&tokens.refresh_token);
            told(&tokens);
            Ok(access_of(&tokens))
        };
        renewal.boxed()
    }
}

pub(crate) fn access_of(tokens: &Tokens) -> Access {
    Access::new(&tokens.access_token).lasting(Duration::from_millis(tokens.expires_in_ms))
}

type Renewal = Shared<BoxFuture<'static, Result<Access, Arc<Error>>>>;

/// One access token at a time, renewed before it ends where there is a source of others.
pub(crate) struct Credentials {
    source: Option<Box<dyn TokenSource>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<String>,
    due: Option<Instant>,
    /// Kept here and not by who began it: a caller that gives up must not lose what the use of a
    /// refresh token gives, and two callers must not use the same one.
    renewal: Option<Renewal>,
}

impl Credentials {
    /// A token that never changes, or none.
    pub(crate) fn fixed(token: Option<String>) -> Self {
        let state = State {
            token,
            ..State::default()
        };
        Self {
            source: None,
            state: Mutex::new(state),
        }
    }

    /// Tokens of a source, after the first one where there is one.
    pub(crate) fn renewable(source: impl TokenSource, first: Option<Access>) -> Self {
        let mut state = State::default();
        if let Some(access) = first {
            state.take(access);
        }
        Self {
            source: Some(Box::new(source)),
            state: Mutex::new(state),
        }
    }

    pub(crate) fn is_renewable(&self) -> bool {
        self.source.is_some()
    }

    /// The token as it stands.
    pub(crate) fn current(&self) -> Option<String> {
        locked(&self.state).token.clone()
    }

    /// When the token is to be renewed; none when only a refusal tells.
    pub(crate) fn due(&self) -> Option<Instant> {
        locked(&self.state).due
    }

    /// A good token, renewed first when it is about to end, or is the one that was refused.
    pub(crate) async fn token(&self, refused: Option<&str>) -> Result<Option<String>, Error> {
        let Some(renewal) = self.renewal(refused) else {
            return Ok(self.current());
        };
        let renewed = renewal.clone().await;
        let mut state = locked(&self.state);
        if state
            .renewal
            .as_ref()
            .is_some_and(|one| one.ptr_eq(&renewal))
        {
            state.renewal = None;
            if let Ok(access) = &renewed {
                state.take(access.clone());
            }
        }
        match renewed {
            Ok(access) => Ok(Some(access.token)),
            // The margin is there for this: the old token is good for a while.
            Err(error) if error.is_passing() && state.token.as_deref() != refused => {
                Ok(state.token.clone())
            }
            Err(error) => Err(Error::Renewal(error)),
        }
    }

    /// The renewal that is needed, begun by this caller or by another one.
    fn renewal(&self, refused: Option<&str>) -> Option<Renewal> {
        let source = self.source.as_ref()?;
        let mut state = locked(&self.state);
        if state.is_good(refused) {
            return None;
        }
        let begin = || source.renew().map_err(Arc::new).boxed().shared();
        Some(state.renewal.get_or_insert_with(begin).clone())
    }
}

impl State {
    fn take(&mut self, access: Access) {
        let due = |life: Duration| life - LONGEST_MARGIN.min(life / 2);
        self.due = access
            .life
            .and_then(|life| Instant::now().checked_add(due(life)));
        self.token = Some(access.token);
    }

    fn is_good(&self, refused: Option<&str>) -> bool {
        self.token.is_some()
            && self.token.as_deref() != refused
            && self.due.is_none_or(|due| Instant::now() < due)
    }
}

/// What is behind the lock is whole at every moment, also where another thread panicked.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::future::{pending, ready};
    use tokio::sync::Notify;
    use tokio::time::advance;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn numbered(life: Duration) -> impl TokenSource {
        let number = AtomicU32::new(0);
        move || {
            let number = number.fetch_add(1, Ordering::Relaxed) + 1;
            ready(Ok(Access::new(format!("token {number}")).lasting(life)))
        }
    }

    async fn token(credentials: &Credentials) -> String {
        credentials.token(None).await.unwrap().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_renewed_before_it_ends_and_not_sooner() {
        let credentials = Credentials::renewable(numbered(15 * MINUTE), None);
        assert_eq!(credentials.current(), None);
        assert_eq!(token(&credentials).await, "token 1");
        advance(14 * MINUTE - Duration::from_secs(1)).await;
        assert_eq!(token(&credentials).await, "token 1");
        advance(Duration::from_secs(2)).await;
        assert_eq!(token(&credentials).await, "token 2");
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_life_is_renewed_at_its_half() {
        let credentials = Credentials::renewable(numbered(MINUTE), None);
        assert_eq!(token(&credentials).await, "token 1");
        advance(MINUTE / 2 + Duration::from_secs(1)).await;
        assert_eq!(token(&credentials).await, "token 2");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_token_is_renewed_once_for_all_who_had_it() {
        let credentials = Credentials::renewable(numbered(MINUTE), None);
        let refused = token(&credentials).await;
        let (first, second) = tokio::join!(
            credentials.token(Some(&refused)),
            credentials.token(Some(&refused)),
        );
        let (first, second) = (first.unwrap().unwrap(), second.unwrap().unwrap());
        assert_eq!((&*first, &*second), ("token 2", "token 2"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_gives_up_does_not_lose_what_comes() {
        let (go, asked) = (Arc::new(Notify::new()), Arc::new(AtomicU32::new(0)));
        let source = {
            let (go, asked) = (Arc::clone(&go), Arc::clone(&asked));
            move || {
                asked.fetch_add(1, Ordering::Relaxed);
                let go = Arc::clone(&go);
                async move {
                    go.notified().await;
                    Ok(Access::new("the one"))
                }
            }
        };
        let credentials = Credentials::renewable(source, None);
        let given_up = tokio::time::timeout(MINUTE, credentials.token(None)).await;
        assert!(given_up.is_err());
        go.notify_one();
        assert_eq!(token(&credentials).await, "the one");
        assert_eq!(
            asked.load(Ordering::Relaxed),
            1,
            "a refresh token is used once"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_away_does_not_end_a_token_that_is_still_good() {
        let source = || {
            let away: Box<dyn std::error::Error + Send + Sync> = "away".into();
            ready(Err(Error::Unreachable(away)))
        };
        let first = Access::new("first").lasting(10 * MINUTE);
        let credentials = Credentials::renewable(source, Some(first));
        advance(9 * MINUTE + Duration::from_secs(1)).await;
        assert_eq!(token(&credentials).await, "first");
        let refused = credentials.token(Some("first")).await;
        assert!(matches!(refused, Err(Error::Renewal(_))), "{refused:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_hangs_is_waited_for_half_a_minute_and_asked_again() {
        let asked = AtomicU32::new(0);
        let source = move || match asked.fetch_add(1, Ordering::Relaxed) {
            0 => pending().boxed(),
            _ => ready(Ok(Access::new("late"))).boxed(),
        };
        let credentials = Credentials::renewable(Limited(source), None);
        let hung = credentials.token(None).await;
        assert!(
            matches!(&hung, Err(error @ Error::Renewal(_)) if error.is_passing()),
            "{hung:?}"
        );
        assert_eq!(token(&credentials).await, "late");
    }

    #[tokio::test(start_paused = true)]
    async fn a_fixed_token_stays_also_when_it_is_refused() {
        let credentials = Credentials::fixed(Some("key".into()));
        let kept = credentials.token(Some("key")).await.unwrap();
        assert_eq!(kept.as_deref(), Some("key"));
    }
}
