//! Refuses what would wait long because everything does: whoever asks can come back, and those who were let in get on.

use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request};
use netra_protocol::ErrorCode;
use parking_lot::Mutex;

use crate::error::Error;
use crate::layers::is_interface;
use crate::state::Gateway;

/// Whoever looks after the server asks here, overloaded or not.
pub(crate) const HEALTH: &str = "/health/";
/// Where work or a credential ends, or a person answers: what takes a load off the server or cannot wait. And where one
/// sees how it is.
const LET_IN: [(&str, &str); 9] = [
    // Without it a page that is opened cannot even say what is the matter.
    ("POST", "/api/auth/refresh"),
    ("POST", "/api/auth/logout"),
    ("DELETE", "/api/auth/sessions"),
    ("DELETE", "/api/auth/sessions/{id}"),
    ("DELETE", "/api/keys/{id}"),
    ("POST", "/api/runs/{id}/cancel"),
    ("POST", "/api/admin/runs/{id}/cancel"),
    ("POST", "/api/approvals/{id}"),
    ("GET", "/api/metrics"),
];
/// How many of those who were refused may come back in the same second: as few as cost little beside the work itself.
const BACK_PER_S: u32 = 200;
/// Whoever is refused is told to come back within this, however many are.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// When those come back who were refused: one after the other, not all in the same moment.
pub(crate) struct Returns(Mutex<Instant>);

impl Returns {
    /// Of nobody yet.
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// After how many seconds whoever is refused now should come back.
    fn book(&self, now: Instant) -> u64 {
        let mut next = self.0.lock();
        let at = (*next).max(now + Duration::from_secs(1));
        let at = at.min(now + BACK_WITHIN);
        *next = at + Duration::from_secs(1) / BACK_PER_S;
        at.saturating_duration_since(now).as_secs()
    }
}

/// Refuses a request where everybody waits too long for a turn, or for the database.
pub(crate) fn check_request(gateway: &Gateway, request: &Request) -> Result<(), Error> {
    let path = request.uri().path();
    if !is_interface(path) || path.starts_with(HEALTH) {
        return Ok(());
    }
    let (method, route) = (request.method(), request.extensions().get::<MatchedPath>());
    if route.is_some_and(|route| LET_IN.contains(&(method.as_str(), route.as_str()))) {
        return Ok(());
    }
    check(gateway, !request.method().is_safe())
}

/// The same for what a frame of a socket asks for.
pub(crate) fn check(gateway: &Gateway, to_write: bool) -> Result<(), Error> {
    if !gateway.lag.is_high(to_write) && !gateway.store.is_overloaded(to_write) {
        return Ok(());
    }
    metrics::counter!("netra_overloaded_total").increment(1);
    let message = "The server has more to do than it can; try again.";
    let after = gateway.returns.book(Instant::now());
    Err(Error::new(ErrorCode::Overloaded, message).retry_after(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_are_refused_come_back_one_after_the_other_and_soon() {
        let (returns, start) = (Returns::new(), Instant::now() + Duration::from_secs(1));
        let crowd = |number: u32, now| -> Vec<usize> {
            let mut back = vec![0; 11];
            for _ in 0..number {
                back[usize::try_from(returns.book(now)).unwrap()] += 1;
            }
            back
        };
        let of_one_second = usize::try_from(BACK_PER_S).unwrap();
        let seen = crowd(5 * BACK_PER_S, start);
        assert_eq!(seen[1..=5], [of_one_second; 5]);
        assert_eq!(seen.iter().sum::<usize>(), 5 * of_one_second);
        // A few seconds later the others are still to come.
        let seen = crowd(BACK_PER_S, start + Duration::from_secs(3));
        assert_eq!(seen[3], of_one_second, "{seen:?}");
        // More than can come one after the other come at the end.
        let seen = crowd(100 * BACK_PER_S, start + Duration::from_secs(4));
        assert_eq!(seen[0], 0);
        assert_eq!(
            seen[4..10].iter().sum::<usize>(),
            6 * of_one_second,
            "{seen:?}"
        );
        // Afterwards it is as if nobody had come.
        assert_eq!(returns.book(start + Duration::from_secs(60)), 1);
    }

    #[test]
    fn what_is_let_in_is_what_there_is() {
        let document = serde_json::to_value(crate::openapi()).unwrap();
        for (method, path) in LET_IN {
            let operation = &document["paths"][path][method.to_lowercase()];
            assert!(operation.is_object(), "{method} {path}");
        }
    }
}
