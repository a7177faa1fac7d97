//! Users who are known elsewhere: whose word about them counts, and what stays when they leave and come back.

use std::time::Duration;

use netra_context::{BackgroundKind, UserExecutionContext};
use netra_protocol::Timestamp;
use netra_protocol::account::{Identity, Role, User};
use netra_protocol::admin::UpdateUser;
use netra_store::{Amount, Bound, Budgets, Claimed, Error, Left, ReservationId, Settlement};
use serde_json::json;

use crate::fixture::Fixture;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn anna() -> Identity {
    Identity {
        issuer: "https://id.example".into(),
        subject: "anna@id.example".into(),
    }
}

fn claim(role: Role, at: Option<i64>) -> Claimed {
    Claimed {
        role: Some(role),
        plan: None,
        at: at.map(|seconds| Timestamp::from_micros(seconds * 1_000_000)),
    }
}

impl Fixture {
    async fn known(&self, claimed: Claimed) -> User {
        let background = self.background();
        let known = self.store.user_of_identity(&background, anna(), claimed);
        known.await.unwrap().user
    }

    async fn gone(&self, user: &User) {
        let ctx = self.in_name_of(user);
        self.store.user_leave(&ctx).await.unwrap();
        let erased = self.store.user_erase(&self.background(), user.id).await;
        assert_eq!(erased.unwrap(), Left::Gone);
    }

    /// One call that has used so many of 100 tokens a day; the limit that has no room, and what is used of it, else.
    async fn spend(&self, user: &User, tokens: u64) -> Result<(), f64> {
        let ctx = self.in_name_of(user);
        let run = self.run(&ctx).await;
        let (id, used) = (ReservationId::new(&self.runtime), Amount::new(tokens, None));
        let budgets = Budgets {
            day: Bound::new(Some(100), None),
            run: Bound::default(),
        };
        let reserved = self.store.reserve(&ctx, &run, id, budgets, used).await;
        let (mut changes, event) = self.ending(&run);
        changes.settled = vec![Settlement { id, used }];
        let ended = self.store.commit(&ctx, &run, changes, vec![event]).await;
        ended.unwrap();
        match reserved {
            Err(Error::BudgetExceeded(shortage)) => Err(shortage.used),
            other => {
                other.unwrap();
                Ok(())
            }
        }
    }
}

#[tokio::test]
async fn an_older_token_does_not_bring_an_older_role_back() {
    let fixture = Fixture::new();
    let first = fixture.known(claim(Role::Developer, Some(100))).await;
    assert_eq!(first.role, Role::Developer);
    // Nothing changes, but from now on this is the newest.
    let same = fixture.known(claim(Role::Developer, Some(300))).await;
    assert_eq!((same.id, same.role), (first.id, Role::Developer));
    for (claimed, role) in [
        (claim(Role::User, Some(200)), Role::Developer),
        (claim(Role::User, None), Role::Developer),
        (claim(Role::User, Some(300)), Role::User),
        (claim(Role::User, Some(400)), Role::User),
        (claim(Role::Developer, Some(399)), Role::User),
        (claim(Role::Developer, Some(401)), Role::Developer),
    ] {
        let user = fixture.known(claimed).await;
        assert_eq!((user.id, user.role), (first.id, role), "{claimed:?}");
    }
}

#[tokio::test]
async fn who_leaves_and_comes_back_the_same_day_has_no_second_budget_and_no_other_limits() {
    let fixture = Fixture::new();
    let before = fixture.known(claim(Role::Developer, Some(200))).await;
    let console = UserExecutionContext::for_background(&fixture.runtime, BackgroundKind::Console);
    let supervised = fixture.store.user_supervised(&console, before.id);
    let supervised = supervised.await.unwrap();
    let limits = json!({"limits": {"concurrent_runs": 1}});
    let limits: UpdateUser = serde_json::from_value(limits).unwrap();
    let limited = fixture.store.user_update(&console, &supervised, limits);
    limited.await.unwrap();
    fixture.spend(&before, 40).await.unwrap();

    fixture.gone(&before).await;
    assert_eq!(
        (fixture.counted("identities"), fixture.counted("departures")),
        (0, 1)
    );
    // Nor does a token of before bring the role back.
    let again = fixture.known(claim(Role::Developer, Some(100))).await;
    assert_ne!(again.id, before.id);
    assert_eq!((again.role, again.limits.concurrent_runs), (Role::User, 1));
    assert_eq!(fixture.spend(&again, 61).await, Err(40.0));
    fixture.spend(&again, 60).await.unwrap();
    assert_eq!(fixture.counted("departures"), 0);
    let newer = fixture.known(claim(Role::Developer, Some(201))).await;
    assert_eq!((newer.id, newer.role), (again.id, Role::Developer));

    fixture.gone(&newer).await;
    fixture.pass(DAY);
    let tomorrow = fixture.known(claim(Role::User, Some(202))).await;
    fixture.spend(&tomorrow, 100).await.unwrap();
}

#[tokio::test]
async fn what_is_kept_of_who_has_left_names_nobody_and_goes_after_a_while() {
    let fixture = Fixture::new();
    let user = fixture.known(claim(Role::User, Some(1))).await;
    fixture.spend(&user, 40).await.unwrap();
    fixture.gone(&user).await;
    let key = fixture.server().map_or("hex(key)", |_| "key");
    let kept = fixture.rows(&format!("SELECT {key}, limits, claimed_at FROM departures"));
    assert_eq!(kept.len(), 1);
    let kept = kept.concat();
    assert!(!kept.contains("anna"), "{kept}");
    let sweep = UserExecutionContext::for_background(&fixture.runtime, BackgroundKind::Sweep);
    fixture.store.sweep(&sweep).await.unwrap();
    assert_eq!(
        (fixture.counted("departures"), fixture.counted("budgets")),
        (1, 1)
    );
    fixture.pass(DAY);
    fixture.store.sweep(&sweep).await.unwrap();
    assert_eq!(
        (fixture.counted("departures"), fixture.counted("budgets")),
        (1, 0)
    );
    fixture.pass(30 * DAY);
    fixture.store.sweep(&sweep).await.unwrap();
    assert_eq!(fixture.counted("departures"), 0);
}
