//! Budgets of model calls: what many calls at once get, what a day and a run are, and what a call that is never settled
//! costs.

use std::time::Duration;

use netra_context::UserExecutionContext;
use netra_protocol::run::Run;
use netra_store::{Amount, Bound, Budgets, Changes, Error, Reserved, Settlement, Writable};

use crate::fixture::Fixture;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn tokens(tokens: u64) -> Amount {
    Amount::new(tokens, None)
}

fn day(tokens: u64) -> Budgets {
    Budgets {
        day: Bound::new(Some(tokens), None),
        run: Bound::default(),
    }
}

impl Fixture {
    async fn settle(
        &self,
        ctx: &UserExecutionContext,
        run: &Writable<Run>,
        reserved: Reserved,
        used: Amount,
    ) {
        let changes = Changes {
            settled: vec![Settlement { reserved, used }],
            ..Changes::default()
        };
        self.store
            .commit(ctx, run, changes, Vec::new())
            .await
            .unwrap();
    }

    fn purses(&self) -> Vec<(String, u64)> {
        let rows = self.rows("SELECT purse, tokens FROM budgets ORDER BY purse");
        let purse = |row: &String| {
            let (purse, tokens) = row.split_once('|').unwrap();
            (purse.to_owned(), tokens.parse().unwrap())
        };
        rows.iter().map(purse).collect()
    }
}

/// The limit that has no room, and what is used of it.
fn shortage(outcome: Result<Reserved, Error>) -> (&'static str, f64) {
    let refused = match outcome.unwrap_err() {
        Error::BudgetExceeded(shortage) => Some((shortage.limit, shortage.used)),
        _ => None,
    };
    refused.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_ten_calls_at_once_a_budget_for_six_lets_six_begin() {
    let fixture = Fixture::new();
    let ctx = fixture.user("ada").await;
    let mut runs = Vec::new();
    for _ in 0..10 {
        runs.push(fixture.run(&ctx).await);
    }
    let store = &fixture.store;
    let all = runs
        .iter()
        .map(|run| store.reserve(&ctx, run, day(60), tokens(10)));
    let outcomes = futures::future::join_all(all).await;
    assert_eq!(outcomes.iter().filter(|one| one.is_ok()).count(), 6);
    let refused = outcomes.into_iter().find(Result::is_err).unwrap();
    assert_eq!(shortage(refused), ("budget_tokens", 60.0));
    // Another user has another day.
    let other = fixture.user("bob").await;
    let run = fixture.run(&other).await;
    store
        .reserve(&other, &run, day(60), tokens(60))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_a_call_did_not_use_others_may_and_what_is_never_settled_is_used() {
    let fixture = Fixture::new();
    let ctx = fixture.user("ada").await;
    let run = fixture.run(&ctx).await;
    let reserve = |amount| fixture.store.reserve(&ctx, &run, day(100), tokens(amount));
    let first = reserve(90).await.unwrap();
    assert_eq!(shortage(reserve(11).await), ("budget_tokens", 90.0));
    fixture.settle(&ctx, &run, first, tokens(20)).await;
    // Never settled, as after a crash.
    reserve(80).await.unwrap();
    assert_eq!(shortage(reserve(1).await), ("budget_tokens", 100.0));
}

#[tokio::test]
async fn a_day_begins_with_nothing_used_and_a_late_settlement_does_not_change_that() {
    let fixture = Fixture::new();
    let ctx = fixture.user("ada").await;
    let run = fixture.run(&ctx).await;
    let reserve = |amount| fixture.store.reserve(&ctx, &run, day(100), tokens(amount));
    let yesterday = reserve(100).await.unwrap();
    fixture.pass(DAY);
    reserve(100).await.unwrap();
    fixture.settle(&ctx, &run, yesterday, tokens(0)).await;
    assert_eq!(shortage(reserve(1).await), ("budget_tokens", 100.0));
    let kept = fixture.purses();
    assert_eq!(kept.len(), 1, "yesterday is kept: {kept:?}");
}

#[tokio::test]
async fn a_refusal_by_one_purse_leaves_the_other_as_it_was_and_a_runs_goes_with_it() {
    let fixture = Fixture::new();
    let ctx = fixture.user("ada").await;
    let run = fixture.run(&ctx).await;
    let both = Budgets {
        day: Bound::new(Some(1_000), None),
        run: Bound::new(None, Some(0.5)),
    };
    let cents = |cents: f64| Amount::new(10, Some(cents / 100.0));
    let reserve = |run, amount| fixture.store.reserve(&ctx, run, both, amount);
    reserve(&run, cents(50.0)).await.unwrap();
    let refused = shortage(reserve(&run, cents(1.0)).await);
    assert_eq!(refused, ("run_budget_usd", 0.5));
    let counted: Vec<_> = fixture.purses().into_iter().map(|(_, used)| used).collect();
    assert_eq!(counted, [10, 10]);
    let another = fixture.run(&ctx).await;
    reserve(&another, cents(50.0)).await.unwrap();

    let (changes, ended) = fixture.ending(&run);
    let store = &fixture.store;
    store
        .commit(&ctx, &run, changes, vec![ended])
        .await
        .unwrap();
    let left = fixture.purses();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(!left.iter().any(|(purse, _)| *purse == run.id.to_string()));
    let ended = reserve(&run, cents(1.0)).await;
    assert!(matches!(ended, Err(Error::RunEnded)), "{ended:?}");
}
