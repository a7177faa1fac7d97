//! Counts per key and minute: requests of a user, of an API key and of an address, sign-ins of a pair of account and
//! address. Each node counts, and where there are several also all together; where that is not possible, each has its
//! share of the limit.

use std::collections::HashMap;
use std::hash::Hash;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use netra_protocol::{ErrorCode, Timestamp};
use netra_store::{Count, Counted, Store};
use parking_lot::Mutex;

use crate::error::Error;

const MINUTE_MS: u64 = 60_000;
/// Keys that are counted at once. When all are taken within one minute, new ones are refused:
/// a limit never falls open.
const KEYS: usize = 1_000_000;

struct Window {
    began: Timestamp,
    count: u32,
}

/// What the count says of one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) allowed: bool,
    limit: u32,
    remaining: u32,
    reset_s: u64,
}

impl Verdict {
    fn over_nodes(Count { count, left_ms }: Count, limit: u32) -> Self {
        let used = u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            allowed: used <= limit,
            limit,
            remaining: limit.saturating_sub(used),
            reset_s: left_ms.div_ceil(1_000).max(1),
        }
    }

    /// A refusal, where one of both is, and otherwise the one that is nearer to its end.
    fn and(self, other: Self) -> Self {
        match (self.allowed, other.allowed) {
            (true, false) => other,
            (false, true) => self,
            _ => self.or_tighter(Some(other)),
        }
    }

    /// The error of one too many; it carries the headers.
    pub(crate) fn refusal(&self) -> Error {
        let mut headers = HeaderMap::new();
        self.write_to(&mut headers);
        Error::new(
            ErrorCode::RateLimited,
            "Too many requests; wait and try again.",
        )
        .with_details(serde_json::json!({ "limit": self.limit, "retry_after_s": self.reset_s }))
        .retry_after(self.reset_s)
        .with_headers(headers)
    }

    /// The one that is nearer to its end.
    pub(crate) fn or_tighter(self, other: Option<Self>) -> Self {
        match other {
            Some(other) if other.remaining < self.remaining => other,
            _ => self,
        }
    }

    /// Tells the caller where the count stands.
    pub(crate) fn write_to(&self, headers: &mut HeaderMap) {
        let fields = [
            (
                HeaderName::from_static("ratelimit-limit"),
                u64::from(self.limit),
            ),
            (
                HeaderName::from_static("ratelimit-remaining"),
                u64::from(self.remaining),
            ),
            (HeaderName::from_static("ratelimit-reset"), self.reset_s),
        ];
        for (name, value) in fields {
            headers.insert(name, HeaderValue::from(value));
        }
    }
}

/// Windows of one minute, by key; each begins with its key's first request.
pub(crate) struct Windows<K>(Mutex<Kept<K>>);

struct Kept<K> {
    windows: HashMap<K, Window>,
    /// When those that had ended were last forgotten.
    swept: Timestamp,
}

impl<K: Hash + Eq> Windows<K> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Kept {
            windows: HashMap::new(),
            swept: Timestamp::from_micros(0),
        }))
    }

    /// Counts one and says whether it is within `limit` per minute, over all nodes.
    pub(crate) async fn count(
        &self,
        store: &Store,
        (key, what): (K, Counted),
        limit: u32,
        now: Timestamp,
    ) -> Verdict {
        match store.count(what).await {
            Some(count) => {
                let here = self.count_here(key, limit, now);
                here.and(Verdict::over_nodes(count, limit))
            }
            None => self.count_here(key, store.share(limit), now),
        }
    }

    /// The same on this node alone.
    fn count_here(&self, key: K, limit: u32, now: Timestamp) -> Verdict {
        let mut counted = self.0.lock();
        let Kept { windows, swept } = &mut *counted;
        // Once a minute, also when all are taken: looking at each of them takes time.
        if now.millis_since(*swept) >= MINUTE_MS {
            windows.retain(|_, window| now.millis_since(window.began) < MINUTE_MS);
            windows.shrink_to(2 * windows.len());
            *swept = now;
        }
        if windows.len() >= KEYS && !windows.contains_key(&key) {
            return Verdict {
                allowed: false,
                limit,
                remaining: 0,
                reset_s: 60,
            };
        }
        let window = windows.entry(key).or_insert(Window {
            began: now,
            count: 0,
        });
        if now.millis_since(window.began) >= MINUTE_MS {
            *window = Window {
                began: now,
                count: 0,
            };
        }
        let allowed = window.count < limit;
        window.count = window.count.saturating_add(1);
        let left_ms = MINUTE_MS.saturating_sub(now.millis_since(window.began));
        Verdict {
            allowed,
            limit,
            remaining: limit.saturating_sub(window.count),
            reset_s: left_ms.div_ceil(1_000).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_micros(1_000_000_000);

    #[test]
    fn one_more_than_the_limit_is_refused_until_the_minute_ends() {
        let windows = Windows::new();
        for used in 1..=5 {
            let verdict = windows.count_here("anna", 5, START);
            assert!(verdict.allowed);
            assert_eq!(verdict.remaining, 5 - used);
        }
        let refused = windows.count_here("anna", 5, START.plus_millis(1_500));
        assert!(!refused.allowed);
        assert_eq!(refused.reset_s, 59);
        assert!(
            windows.count_here("bert", 5, START).allowed,
            "another key is not touched"
        );
        assert!(
            windows
                .count_here("anna", 5, START.plus_millis(60_000))
                .allowed
        );
    }

    #[test]
    fn names_that_are_not_used_again_are_forgotten() {
        let windows = Windows::new();
        for key in 0..1_000 {
            windows.count_here(key, 5, START);
        }
        windows.count_here(1_000, 5, START.plus_millis(60_000));
        assert_eq!(windows.0.lock().windows.len(), 1);
    }

    #[test]
    fn of_two_counts_the_one_that_ends_first_is_told() {
        let windows = Windows::new();
        let of = |key, limit| windows.count_here(key, limit, START);
        let (wide, narrow) = (of("a", 600), of("b", 10));
        for told in [
            wide.or_tighter(Some(narrow)),
            narrow.or_tighter(Some(wide)),
            narrow.or_tighter(None),
        ] {
            assert_eq!(told, narrow);
        }
    }

    #[test]
    fn what_was_counted_over_all_nodes_refuses_too() {
        let windows = Windows::new();
        let here = windows.count_here("anna", 5, START);
        let all = |count| {
            let left_ms = 1_500;
            Verdict::over_nodes(Count { count, left_ms }, 5)
        };
        assert!(here.and(all(5)).allowed);
        let refused = here.and(all(6));
        assert!(!refused.allowed);
        assert_eq!((refused.remaining, refused.reset_s), (0, 2));
        for _ in 0..4 {
            windows.count_here("anna", 5, START);
        }
        let one_too_many = windows.count_here("anna", 5, START);
        assert!(
            !one_too_many.and(all(5)).allowed,
            "where the other was forgotten"
        );
    }

    #[test]
    fn the_headers_say_where_the_count_stands() {
        let windows = Windows::new();
        let mut headers = HeaderMap::new();
        windows.count_here(1, 600, START).write_to(&mut headers);
        assert_eq!(headers["ratelimit-limit"], "600");
        assert_eq!(headers["ratelimit-remaining"], "599");
        assert_eq!(headers["ratelimit-reset"], "60");
    }
}
