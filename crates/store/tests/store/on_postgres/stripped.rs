//! Row-level security alone: what users are told, and what they change, when the user is taken out of every condition of
//! every statement.

use netra_context::UserExecutionContext;

use super::day::{self, RUNS};
use super::isolation::counts;
use crate::between::Strips;
use crate::fixture::Fixture;

async fn two_users() -> (Fixture, UserExecutionContext, UserExecutionContext) {
    let fixture = Fixture::on_postgres();
    let (ada, bob) = (fixture.user("ada").await, fixture.user("bob").await);
    day::keep(&fixture, &ada, 1).await;
    day::keep(&fixture, &bob, 2).await;
    (fixture, ada, bob)
}

/// How many rows this user sees of each table.
fn rows(fixture: &Fixture, ctx: &UserExecutionContext) -> Vec<(String, u32)> {
    let user = ctx.user_id().unwrap().to_bytes();
    let user: String = user.iter().map(|byte| format!("{byte:02x}")).collect();
    let set_up = format!("SELECT set_config('netra.user_id', '{user}', true)");
    counts(fixture.server().unwrap(), &set_up)
}

#[tokio::test]
async fn no_row_leaks_and_none_is_changed_when_the_user_is_in_no_condition_any_more() {
    let (fixture, ada, bob) = two_users().await;
    let fixture = fixture.with_between(None);
    let before = (
        day::told(&fixture, &ada).await,
        day::told(&fixture, &bob).await,
    );
    let kept = rows(&fixture, &bob);

    let fixture = fixture.with_between(Some(Strips(true)));
    assert_eq!(day::told(&fixture, &ada).await, before.0);
    assert_eq!(day::told(&fixture, &bob).await, before.1);
    day::keep(&fixture, &fixture.user("eve").await, 3).await;
    day::change(&fixture, &ada).await;
    assert_eq!(rows(&fixture, &bob), kept);
    let stripped = fixture.server().unwrap().between().stripped();
    assert!(stripped.len() > 40, "{stripped:#?}");

    let fixture = fixture.with_between(None);
    assert_eq!(day::told(&fixture, &bob).await, before.1);
}

/// That the conditions are gone, and nothing but the policies holds what the other test finds held.
#[tokio::test]
async fn without_the_policies_too_everybody_is_told_everything() {
    let (fixture, ada, _) = two_users().await;
    let fixture = fixture.with_between(None);
    let server = fixture.server().unwrap();
    let owned = "ALTER TABLE runs DISABLE ROW LEVEL SECURITY; ALTER TABLE threads DISABLE ROW LEVEL SECURITY";
    server.as_owner(owned).unwrap();
    let runs = async |fixture: &Fixture| {
        let runs = fixture.store.runs(&ada, 100, None).await.unwrap();
        runs.items.len()
    };
    assert_eq!(runs(&fixture).await, RUNS);
    let fixture = fixture.with_between(Some(Strips(true)));
    assert_eq!(runs(&fixture).await, 2 * RUNS);
}
