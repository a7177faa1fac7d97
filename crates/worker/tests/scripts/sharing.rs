//! Many scripts, few workers: nothing is left behind, nobody waits for ever.

use std::time::Duration;

use futures::FutureExt as _;
use netra_worker::{Error, Limits, ScriptPool, Step};
use serde_json::{Value, json};

use crate::driver::{assert_gone, call, finish, limits, pool, run, source, start};
use crate::someone::someone;

#[tokio::test]
async fn a_warm_worker_is_always_ready() {
    let pool = pool(2);
    assert_eq!(
        pool.warm_workers(),
        0,
        "nothing is started before it is asked for"
    );
    pool.warm_up();
    for _ in 0..3 {
        until_warm(&pool).await;
        assert_eq!(run(&pool, "1", limits()).await.1.unwrap(), json!(1));
    }
}

/// They are started by a thread of their own.
async fn until_warm(pool: &ScriptPool) {
    let warm = async {
        while pool.warm_workers() != 1 {
            tokio::task::yield_now().await;
        }
    };
    let warm = tokio::time::timeout(Duration::from_secs(10), warm).await;
    warm.unwrap();
}

#[tokio::test]
async fn a_run_never_sees_what_another_left() {
    let pool = pool(1);
    let first = run(
        &pool,
        "import sys\nsecret = 'one'\nsys.secret = 1 if False else None\n",
        limits(),
    )
    .await;
    drop(first);
    let mut ids = Vec::new();
    for _ in 0..3 {
        let mut script = start(&pool, "secret", &[]).await;
        ids.push(script.meter().process_id().unwrap());
        let outcome = script.next().await;
        assert!(
            matches!(&outcome, Err(Error::Script(error)) if error.kind == "NameError"),
            "{outcome:?}"
        );
    }
    ids.dedup();
    assert_eq!(ids.len(), 3, "each run has a process of its own");
}

/// Runs `code`; each call of `agent(code)` runs that code in the same pool, and its result is the answer.
fn supervise(
    pool: ScriptPool,
    code: String,
) -> std::pin::Pin<Box<dyn Future<Output = Value> + Send>> {
    Box::pin(async move {
        let mut script = start(&pool, &code, &["agent"]).await;
        loop {
            match script.next().await.unwrap() {
                Step::Call { args, .. } => {
                    let code = args[0].as_str().unwrap().to_owned();
                    let value = supervise(pool.clone(), code).await;
                    script.answer(Ok(value));
                }
                Step::Finished(value) => return value,
                other => panic!("not expected: {other:?}"),
            }
        }
    })
}

#[tokio::test]
async fn supervisors_that_wait_for_sub_agents_do_not_block_one_worker() {
    let pool = pool(1);
    let sub = r#"found = agent("7 * 6")\n[found, found + 1]"#;
    let code = format!(
        "kept = {{'a': [1, 2]}}\nresults = [agent('{sub}') for _ in range(2)]\n[kept, results]"
    );
    let expected = json!([{ "a": [1, 2] }, [[42, 43], [42, 43]]]);
    assert_eq!(supervise(pool.clone(), code.clone()).await, expected);
    // Several at once, still with one worker.
    let (a, b, c) = tokio::join!(
        supervise(pool.clone(), code.clone()),
        supervise(pool.clone(), code.clone()),
        supervise(pool, code)
    );
    assert_eq!([a, b, c], [expected.clone(), expected.clone(), expected]);
}

#[tokio::test]
async fn a_waiting_script_keeps_its_worker_while_there_are_enough() {
    // The last is for another user.
    let pool = pool(3);
    let mut script = start(&pool, "x = 5\nx + wait()", &["wait"]).await;
    let id = script.meter().process_id();
    call(&mut script).await;
    assert_eq!(run(&pool, "1", limits()).await.1.unwrap(), json!(1));
    assert_eq!(script.meter().process_id(), id);
    script.answer(Ok(json!(1)));
    assert_eq!(finish(&mut script).await, json!(6));
}

#[tokio::test]
async fn a_script_that_lost_its_worker_goes_on_where_it_was_with_its_limits() {
    let pool = pool(1);
    let code = "
rows = [{'n': n} for n in range(100)]
def deep(n):
    return ask() if n == 0 else deep(n - 1)
answer = deep(20)
print(answer)
while True:
    pass
";
    let limits = Limits {
        run_time: Duration::from_millis(400),
        ..limits()
    };
    let mut script = pool
        .start(&someone(1), source(code, &["ask"]), limits)
        .await
        .unwrap();
    let id = script.meter().process_id().unwrap();
    call(&mut script).await;
    assert_eq!(run(&pool, "1", limits).await.1.unwrap(), json!(1));
    assert_eq!(script.meter().process_id(), None, "its worker was needed");
    assert_gone(id).await;
    script.answer(Ok(json!("back")));
    assert_eq!(
        script.next().await.unwrap(),
        Step::Printed("back\n".to_owned())
    );
    assert!(matches!(script.next().await, Err(Error::TimeLimit { .. })));
}

#[tokio::test]
async fn deferred_calls_survive_the_loss_of_the_worker() {
    let pool = pool(1);
    let code = "
import asyncio
async def one(name):
    return [name, await agent(name)]
await asyncio.gather(*[one(name) for name in ['a', 'b', 'c']])
";
    let mut script = start(&pool, code, &["agent"]).await;
    let mut ids = Vec::new();
    let pending = loop {
        match script.next().await.unwrap() {
            Step::Call { id, .. } => {
                ids.push(id);
                script.defer();
            }
            Step::Waiting(pending) => break pending,
            other => panic!("not expected: {other:?}"),
        }
    };
    assert_eq!(pending, ids);
    assert_eq!(run(&pool, "1", limits()).await.1.unwrap(), json!(1));
    assert_eq!(script.meter().process_id(), None, "its worker was needed");
    script.resolve(ids[1], Ok(json!(2)));
    assert_eq!(
        script.next().await.unwrap(),
        Step::Waiting(vec![ids[0], ids[2]])
    );
    script.resolve(ids[2], Ok(json!(3)));
    script.resolve(ids[0], Ok(json!(1)));
    assert_eq!(
        finish(&mut script).await,
        json!([["a", 1], ["b", 2], ["c", 3]])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_supervisors_share_few_workers() {
    let pool = pool(2);
    // Four levels of agents that wait for agents, twelve at once.
    let code = (1..4).fold("1".to_owned(), |sub, level| {
        format!("{level} + agent({})", serde_json::to_string(&sub).unwrap())
    });
    let runs: Vec<_> = (0..12)
        .map(|_| supervise(pool.clone(), code.clone()))
        .collect();
    for run in runs.into_iter().map(spawn).collect::<Vec<_>>() {
        assert_eq!(run.await.unwrap(), json!(7));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test that owns its tasks by awaiting them"
)]
fn spawn<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(work)
}

#[tokio::test]
async fn waiting_for_a_worker_can_be_given_up() {
    let pool = pool(1);
    let busy = start(&pool, "while True:\n    pass\n", &[]).await;
    let ctx = someone(1);
    let waiting = pool.start(&ctx, source("1", &[]), limits());
    assert!(
        tokio::time::timeout(Duration::from_millis(50), waiting)
            .await
            .is_err()
    );
    drop(busy);
    assert_eq!(run(&pool, "2", limits()).await.1.unwrap(), json!(2));
}

#[tokio::test]
async fn a_user_with_much_to_do_leaves_a_worker_to_others_and_then_they_take_turns() {
    let pool = pool(2);
    let (busy, other) = (someone(1), someone(2));
    let forever = || source("while True:\n    pass\n", &[]);
    let mut first = pool.start(&busy, forever(), limits()).await.unwrap();
    let mut second = Box::pin(pool.start(&busy, forever(), limits()));
    assert!((&mut second).now_or_never().is_none());
    // Although the second came earlier.
    let mut short = pool
        .start(&other, source("1", &[]), limits())
        .await
        .unwrap();
    assert_eq!(finish(&mut short).await, json!(1));
    assert!((&mut second).now_or_never().is_none(), "one is left free");
    drop(short);
    assert!(first.next().now_or_never().is_none());
    drop(first);
    second.await.unwrap();
}

#[tokio::test]
async fn a_script_gives_its_worker_up_also_for_those_of_its_own_user() {
    let pool = pool(3);
    let (one, other) = (someone(1), someone(2));
    let ask = || source("ask()", &["ask"]);
    let mut asking = Vec::new();
    for _ in 0..2 {
        let mut script = pool.start(&one, ask(), limits()).await.unwrap();
        call(&mut script).await;
        asking.push(script);
    }
    let forever = source("while True:\n    pass\n", &[]);
    let _busy = pool.start(&other, forever, limits()).await.unwrap();
    // All are taken now, two of them by scripts that wait for this one.
    let mut sub = pool.start(&one, source("1", &[]), limits()).await.unwrap();
    assert_eq!(finish(&mut sub).await, json!(1));
    drop(sub);
    for script in &mut asking {
        script.answer(Ok(json!(2)));
        assert_eq!(finish(script).await, json!(2));
    }
}
