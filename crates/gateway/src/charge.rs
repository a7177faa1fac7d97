//! On whose account a request, a socket or a stream works, and what is said to a user whose requests hold more
//! memory than the user may have.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use netra_context::memory::{Account, OverLimit};
use netra_context::{Limit, Principal};
use netra_protocol::ErrorCode;
use netra_store::Counted;
use serde_json::json;

use crate::auth::verifier::Passed;
use crate::error::Error;
use crate::limit::Verdict;
use crate::state::Gateway;

/// When to come back, in seconds. Nobody knows when other requests end.
const AGAIN_S: u64 = 1;

/// The account of a user whose credentials were verified. Refused where the user holds more than allowed and has no
/// run that could be ended for it.
fn account(gateway: &Gateway, principal: &Principal) -> Result<Arc<Account>, Error> {
    let (user, limit_mib) = (principal.user_id, principal.limits.memory_mib);
    let account = gateway.runtime.account_of(user, limit_mib);
    // Nothing is ended here: requests come as often as somebody likes, and the watch ends one thing after the other. Asked
    // again: the last of the runs may just have ended.
    if account.is_over() && !gateway.engine.can_relieve(user) && account.is_over() {
        gateway.runtime.limit_hit(user, Limit::Memory);
        return Err(refusal(OverLimit {
            used: account.current_bytes(),
            limit: account.limit(),
        }));
    }
    Ok(account)
}

/// Lets a request or a socket of a verified user in: counts it, and gives the account that it works on, with where that
/// of its counts stands which ends first.
///
/// # Errors
/// 429 where the user has asked too often, or holds too much memory.
pub(crate) async fn admit(
    gateway: &Gateway,
    passed: &Passed,
) -> Result<(Verdict, Arc<Account>), Error> {
    let principal = &passed.verified.principal;
    let (user, allowed) = (principal.user_id, principal.limits.requests_per_minute);
    let (store, now) = (&gateway.store, gateway.runtime.now());
    let counted = (user, Counted::Requests(user));
    let verdict = gateway.requests.count(store, counted, allowed, now).await;
    if !verdict.allowed {
        gateway.runtime.limit_hit(user, Limit::Requests);
        return Err(verdict.refusal());
    }
    let verdict = verdict.or_tighter(passed.by_key);
    Ok((verdict, account(gateway, principal)?))
}

/// What is said where memory is short: the user's own, not the server's.
pub(crate) fn refusal(over: OverLimit) -> Error {
    metrics::counter!("netra_memory_refused_total").increment(1);
    let message = "Your requests and runs hold as much memory as they may; let one of them end.";
    Error::new(ErrorCode::RateLimited, message)
        .with_details(json!({
            "limit": "memory_mib", "used_bytes": over.used, "limit_bytes": over.limit,
        }))
        .retry_after(AGAIN_S)
}

/// The body of an answer, made on its user's account to its last byte.
struct Charged {
    body: Body,
    account: Arc<Account>,
}

/// The body, made on this account.
pub(crate) fn body(account: Arc<Account>, body: Body) -> Body {
    Body::new(Charged { body, account })
}

impl HttpBody for Charged {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let _entered = this.account.scope().enter();
        Pin::new(&mut this.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
