//! Budgets of model calls: what many calls at once get, what a day and a run are, and what a call costs that is settled
//! twice, or never.

use std::time::Duration;

use netra_context::{BackgroundKind, UserExecutionContext};
use netra_protocol::run::Run;
use netra_store::{Amount, Bound, Budgets, Changes, Error, ReservationId, Settlement, Writable};

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
    /// What names it, once it is set aside.
    async fn reserve(
        &self,
        ctx: &UserExecutionContext,
        run: &Writable<Run>,
        budgets: Budgets,
        amount: Amount,
    ) -> Result<ReservationId, Error> {
        let id = ReservationId::new(&self.runtime);
        let reserved = self.store.reserve(ctx, run, id, budgets, amount).await;
        reserved.map(|_| id)
    }

    async fn settle(
        &self,
        ctx: &UserExecutionContext,
        run: &Writable<Run>,
        id: ReservationId,
        used: Amount,
    ) {
        let changes = Changes {
            settled: vec![Settlement { id, used }],
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

    fn open_reservations(&self) -> u64 {
        self.counted("reservations")
    }
}

/// The limit that has no room, and what is used of it.
fn shortage(outcome: Result<ReservationId, Error>) -> (&'static str, f64) {
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
    let all = runs
        .iter()
        .map(|run| fixture.reserve(&ctx, run, day(60), tokens(10)));
    let outcomes = futures::future::join_all(all).await;
    assert_eq!(outcomes.iter().filter(|one| one.is_ok()).count(), 6);
    let refused = outcomes.into_iter().find(Result::is_err).unwrap();
    assert_eq!(shortage(refused), ("budget_tokens", 60.0));
    // Another user has another day.
    let other = fixture.user("bob").await;
    let run = fixture.run(&other).await;
    fixture
        .reserve(&other, &run, day(60), tokens(60))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_a_call_did_not_use_others_may_and_what_is_never_settled_is_used() {
    let fixture = Fixture::new();
    let ctx = fixture.user("ada").await;
    let run = fixture.run(&ctx).await;
    let reserve = |amount| fixture.reserve(&ctx, &run, day(100), tokens(amount));
    let first = reserve(90).await.unwrap();
    assert_eq!(shortage(reserve(11).await), ("budget_tokens", 90.0));
    fixture.settle(&ctx, &run, first, tokens(20)).await;
    // Never settled, as after a crash.
    reserve(80).await.unwrap();
    assert_eq!(shortage(reserve(1).await), ("budget_tokens", 100.0));
}

#[tokio::test]
async fn a_call_that_is_dropped_while_it_is_set_aside_does_not_stay_charged() {
    let fixture = Fixture::new();
    let ctx = fixture.user("ada").await;
    let run = fixture.run(&ctx).await;
    let id = ReservationId::new(&fixture.runtime);
    {
        let reserving = fixture.store.reserve(&ctx, &run, id, day(100), tokens(100));
        let mut reserving = std::pin::pin!(reserving);
        // It is on its way to the store, and whoever asked is gone.
        assert!(futures::poll!(&mut reserving).is_pending());
    }
    // Asked for after it, this is written after it, whatever else the writer does.
    fixture.settle(&ctx, &run, id, tokens(0)).await;
    fixture
        .reserve(&ctx, &run, day(100), tokens(100))
        .await
        .unwrap();
    assert_eq!(fixture.open_reservations(), 1);
}

#[tokio::test]
async fn a_call_that_is_settled_twice_is_counted_once_and_one_that_was_refused_not_at_all() {
    let fixture = Fixture::new();
    let ctx = fixture.user("ada").await;
    let run = fixture.run(&ctx).await;
    let first = fixture.reserve(&ctx, &run, day(100), tokens(90)).await;
    let refused = ReservationId::new(&fixture.runtime);
    let outcome = fixture
        .store
        .reserve(&ctx, &run, refused, day(100), tokens(20));
    assert!(matches!(outcome.await, Err(Error::BudgetExceeded(_))));
    let first = first.unwrap();
    for id in [first, first, refused] {
        fixture.settle(&ctx, &run, id, tokens(30)).await;
    }
    let used: Vec<u64> = fixture.purses().into_iter().map(|(_, used)| used).collect();
    assert_eq!((used, fixture.open_reservations()), (vec![30], 0));
}

#[tokio::test]
async fn what_a_stopped_server_left_behind_is_settled_at_the_next_start_in_full_and_for_good() {
    let fixture = Fixture::new();
    let ctx = fixture.user("ada").await;
    let run = fixture.run(&ctx).await;
    let call = fixture.reserve(&ctx, &run, day(100), tokens(40)).await;
    let recovery = BackgroundKind::Recovery;
    let recovery = UserExecutionContext::for_background(&fixture.runtime, recovery);
    let store = &fixture.store;
    assert_eq!(store.reservations_abandoned(&recovery).await.unwrap(), 1);
    // Nobody of before can change it any more.
    fixture.settle(&ctx, &run, call.unwrap(), tokens(0)).await;
    let refused = fixture.reserve(&ctx, &run, day(100), tokens(61)).await;
    assert_eq!(shortage(refused), ("budget_tokens", 40.0));
    let refused = store.reservations_abandoned(&ctx).await;
    assert!(matches!(refused, Err(Error::Forbidden)));
}

#[tokio::test]
async fn a_day_begins_with_nothing_used_and_a_late_settlement_does_not_change_that() {
    let fixture = Fixture::new();
    let ctx = fixture.user("ada").await;
    let run = fixture.run(&ctx).await;
    let reserve = |amount| fixture.reserve(&ctx, &run, day(100), tokens(amount));
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
    let reserve = |run, amount| fixture.reserve(&ctx, run, both, amount);
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
    assert_eq!(fixture.open_reservations(), 1, "of the run that goes on");
    assert!(!left.iter().any(|(purse, _)| *purse == run.id.to_string()));
    let ended = reserve(&run, cents(1.0)).await;
    assert!(matches!(ended, Err(Error::RunEnded)), "{ended:?}");
}
