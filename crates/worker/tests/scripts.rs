//! Scripts in real worker processes: what they can do, what they cannot, and every limit gone over.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::{Duration, Instant};

use netra_worker::{Config, Error, Limits, Script, ScriptException, ScriptPool, Source, Step};
use serde_json::{Map, Value, json};

fn pool(workers: usize) -> ScriptPool {
    let program = env!("CARGO_BIN_EXE_netra-worker-probe");
    ScriptPool::new(Config {
        program: program.into(),
        workers,
        warm: 1,
    })
}

fn source(code: &str, functions: &[&str]) -> Source {
    Source {
        name: "test.py".to_owned(),
        code: code.to_owned(),
        inputs: Map::new(),
        functions: functions.iter().map(|name| (*name).to_owned()).collect(),
    }
}

fn limits() -> Limits {
    Limits {
        run_time: Duration::from_secs(10),
        memory_bytes: 64 << 20,
        ..Limits::default()
    }
}

async fn start(pool: &ScriptPool, code: &str, functions: &[&str]) -> Script {
    pool.start(source(code, functions), limits()).await.unwrap()
}

/// Runs a script that calls nothing to its end, and says what it printed.
async fn run(pool: &ScriptPool, code: &str, limits: Limits) -> (String, Result<Value, Error>) {
    let mut script = pool.start(source(code, &[]), limits).await.unwrap();
    let mut printed = String::new();
    loop {
        match script.next().await {
            Ok(Step::Printed(text)) => printed.push_str(&text),
            Ok(Step::Finished(value)) => return (printed, Ok(value)),
            Ok(other) => panic!("not expected: {other:?}"),
            Err(error) => return (printed, Err(error)),
        }
    }
}

async fn call(script: &mut Script) -> (u32, String, Vec<Value>, Map<String, Value>) {
    match script.next().await.unwrap() {
        Step::Call {
            id,
            name,
            args,
            kwargs,
        } => (id, name, args, kwargs),
        other => panic!("no call, but {other:?}"),
    }
}

async fn finish(script: &mut Script) -> Value {
    match script.next().await.unwrap() {
        Step::Finished(value) => value,
        other => panic!("no end, but {other:?}"),
    }
}

#[tokio::test]
async fn a_script_runs_with_what_authors_expect() {
    let code = r#"
import json, math, re
from dataclasses import dataclass
from collections import Counter, defaultdict
from datetime import datetime, timedelta

@dataclass
class Option:
    name: str
    saving: float = 0.0

class Ledger:
    def __init__(self):
        self.rows = []
    def add(self, name, **fields):
        self.rows.append({"name": name, **fields})
        return self

def total(rows, *, key="cost"):
    """Adds up."""
    return sum(row.get(key, 0) for row in rows)

ledger = Ledger().add("a", cost=1.5).add("b", cost=2)
best, *rest = sorted([Option("x", 2.0), Option("y", 3.0)], key=lambda o: o.saving, reverse=True)
try:
    {}["missing"]
except KeyError as error:
    caught = f"{type(error).__name__}: {error}"
finally:
    done = True
words = Counter(re.findall(r"\w+", "to be or not to be"))
groups = defaultdict(list)
for index, word in enumerate(["a", "bb", "cc"]):
    groups[len(word)].append((index, word))
when = datetime(2026, 1, 2, 3, 4, 5) + timedelta(hours=1)
print(f"{total(ledger.rows):,.2f}", f"{0.256:.1%}", f"{'x':>3}|", "{}".format(4))
{
    "best": best,
    "rest": [o.name for o in rest],
    "caught": caught,
    "words": dict(words.most_common(1)),
    "groups": dict(groups),
    "json": json.loads(json.dumps({"a": [1, None]})),
    "root": math.sqrt(16),
    "when": when,
    "name": name if (name := "walrus") else None,
    "given": [rows[0], rows[-1]],
}
"#;
    let mut given = source(code, &[]);
    given
        .inputs
        .insert("rows".to_owned(), json!([{ "cost": 1 }, "last"]));
    let mut script = pool(1).start(given, limits()).await.unwrap();
    assert_eq!(
        script.next().await.unwrap(),
        Step::Printed("3.50 25.6%   x| 4\n".to_owned())
    );
    let expected = json!({
        "best": { "name": "y", "saving": 3.0 }, "rest": ["x"], "caught": "KeyError: 'missing'",
        "words": { "to": 2 }, "groups": { "1": [[0, "a"]], "2": [[1, "bb"], [2, "cc"]] },
        "json": { "a": [1, null] }, "root": 4.0, "when": "2026-01-02T04:04:05", "name": "walrus",
        "given": [{ "cost": 1 }, "last"],
    });
    assert_eq!(finish(&mut script).await, expected);
}

#[tokio::test]
async fn calls_leave_with_their_arguments_and_come_back_with_an_answer_or_an_exception() {
    let code = r#"
seen = []
def ask(question, **more):
    try:
        return tool("search", question, **more)
    except ValueError as error:
        seen.append(f"caught {error}")
        return None
[ask("one", limit=3), ask("two", deep={"a": (1, 2)}), seen]
"#;
    let mut script = start(&pool(1), code, &["tool"]).await;
    let (_, name, args, kwargs) = call(&mut script).await;
    assert_eq!(
        (name.as_str(), args),
        ("tool", vec![json!("search"), json!("one")])
    );
    assert_eq!(Value::Object(kwargs), json!({ "limit": 3 }));
    assert!(
        matches!(script.next().await, Err(Error::Misuse(_))),
        "it waits for an answer"
    );
    script.answer(Ok(json!({ "hits": [1, 2.5, null] })));
    let (_, _, _, kwargs) = call(&mut script).await;
    assert_eq!(Value::Object(kwargs), json!({ "deep": { "a": [1, 2] } }));
    let exception = ScriptException {
        kind: "ValueError".to_owned(),
        message: "no such tool".to_owned(),
    };
    script.answer(Err(exception));
    let expected = json!([{ "hits": [1, 2.5, null] }, null, ["caught no such tool"]]);
    assert_eq!(finish(&mut script).await, expected);
    assert!(
        matches!(script.next().await, Err(Error::Misuse(_))),
        "it has ended"
    );
}

#[tokio::test]
async fn deferred_calls_run_at_the_same_time() {
    let code = r#"
import asyncio
async def both():
    return await asyncio.gather(agent("a"), agent("b"))
await both()
"#;
    let mut script = start(&pool(1), code, &["agent"]).await;
    let (first, ..) = call(&mut script).await;
    script.defer();
    let (second, _, args, _) = call(&mut script).await;
    assert_eq!(args, [json!("b")]);
    script.defer();
    assert_eq!(
        script.next().await.unwrap(),
        Step::Waiting(vec![first, second])
    );
    script.resolve(second, Ok(json!("B")));
    script.resolve(first, Ok(json!("A")));
    assert_eq!(finish(&mut script).await, json!(["A", "B"]));
}

#[tokio::test]
async fn what_is_wrong_with_a_script_is_said_with_its_line() {
    let pool = pool(1);
    let raised = |code: &'static str| {
        let pool = pool.clone();
        async move {
            match run(&pool, code, limits()).await.1 {
                Err(Error::Script(traceback)) => traceback,
                other => panic!("not raised: {other:?}"),
            }
        }
    };
    let error = raised("x = 1\ndef f():\n    raise ValueError('too bad')\nf()\n").await;
    assert_eq!(
        (error.kind.as_str(), error.message.as_str(), error.line),
        ("ValueError", "too bad", Some(3))
    );
    assert!(
        error.traceback.contains("File \"test.py\", line 4"),
        "{}",
        error.traceback
    );
    let error = raised("x = 1\nif x\n    y = 2\n").await;
    assert_eq!((error.kind.as_str(), error.line), ("SyntaxError", Some(2)));
    let error = raised("unknown_tool()").await;
    assert_eq!(error.kind, "NameError");
    let error = raised("def f(n):\n    return f(n + 1)\nf(0)\n").await;
    assert_eq!(error.kind, "RecursionError");
    let error = raised("b'bytes'").await;
    assert_eq!(error.kind, "TypeError");
}

#[tokio::test]
async fn a_script_reaches_nothing_but_its_functions() {
    let pool = pool(1);
    for code in [
        "open('/etc/passwd').read()",
        "from pathlib import Path\nPath('/etc/passwd').read_text()",
        "import os\nos.environ",
        "import subprocess",
        "import socket",
        "from datetime import datetime\ndatetime.now()",
    ] {
        let (_, outcome) = run(&pool, code, limits()).await;
        assert!(
            matches!(outcome, Err(Error::Script(_))),
            "{code}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn an_endless_loop_is_stopped() {
    let limits = Limits {
        run_time: Duration::from_millis(300),
        ..limits()
    };
    let begun = Instant::now();
    let (printed, outcome) = run(&pool(1), "print('on')\nwhile True:\n    pass\n", limits).await;
    assert!(
        matches!(outcome, Err(Error::TimeLimit { limit }) if limit == limits.run_time),
        "{outcome:?}"
    );
    assert_eq!(printed, "on\n");
    assert!(begun.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn a_computation_that_never_looks_at_the_clock_is_stopped() {
    let limits = Limits {
        run_time: Duration::from_millis(100),
        ..limits()
    };
    let code = "x = 3\nwhile True:\n    x = x * x\n";
    let (_, outcome) = run(&pool(1), code, limits).await;
    let stopped = matches!(
        outcome,
        Err(Error::TimeLimit { .. } | Error::MemoryLimit { .. })
    );
    assert!(stopped, "{outcome:?}");
}

#[tokio::test]
async fn source_that_nests_without_end_is_an_error_of_the_script() {
    let pool = pool(1);
    for code in [
        "(".repeat(100_000),
        "-".repeat(200_000) + "1",
        "[".repeat(50_000) + &"]".repeat(50_000),
    ] {
        let (_, outcome) = run(&pool, &code, limits()).await;
        assert!(matches!(outcome, Err(Error::Script(_))), "{outcome:?}");
    }
}

#[tokio::test]
async fn time_is_counted_over_all_steps_and_cannot_be_caught() {
    let code = "
while True:
    try:
        while True:
            tick()
            for _ in range(20000):
                pass
    except BaseException:
        pass
";
    let limits = Limits {
        run_time: Duration::from_millis(200),
        ..limits()
    };
    let mut script = pool(1)
        .start(source(code, &["tick"]), limits)
        .await
        .unwrap();
    let error = loop {
        match script.next().await {
            Ok(Step::Call { .. }) => script.answer(Ok(Value::Null)),
            Ok(other) => panic!("not expected: {other:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::TimeLimit { .. }), "{error:?}");
    assert!(script.computed() > Duration::ZERO);
}

#[tokio::test]
async fn a_worker_that_does_not_answer_is_killed_after_its_time() {
    // A program that starts, reads nothing and says nothing.
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("deaf");
    std::fs::write(&program, "#!/bin/sh\nwhile :; do :; done\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, executable).unwrap();
    let pool = ScriptPool::new(Config {
        program,
        workers: 1,
        warm: 0,
    });
    let limits = Limits {
        run_time: Duration::from_millis(50),
        ..limits()
    };
    let mut script = pool.start(source("1", &[]), limits).await.unwrap();
    let id = script.meter().process_id().unwrap();
    let outcome = script.next().await;
    assert!(
        matches!(outcome, Err(Error::TimeLimit { .. })),
        "{outcome:?}"
    );
    assert!(script.meter().process_id().is_none());
    assert_gone(id).await;
}

/// Waits until a process has ended: its entry is away, or it is a zombie that nobody has collected yet.
async fn assert_gone(id: u32) {
    let until = Instant::now() + Duration::from_secs(5);
    let lives = || {
        std::fs::read_to_string(format!("/proc/{id}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z ") && !stat.contains(") X "))
    };
    while lives() {
        assert!(Instant::now() < until, "process {id} still lives");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn memory_bombs_are_stopped() {
    let pool = pool(1);
    let limits = Limits {
        memory_bytes: 16 << 20,
        ..limits()
    };
    for code in [
        "rows = []\nwhile True:\n    rows.append({'a': len(rows)})\n",
        "text = 'x'\nwhile True:\n    text = text + text\n",
        "'x' * (1 << 40)",
        "[0] * (1 << 33)",
        "2 ** (1 << 40)",
        "rows = []\ntry:\n    while True:\n        rows.append('y' * 1000)\nexcept MemoryError:\n    rows = 'caught'\nrows",
        "list(range(10 ** 9))",
        "','.join(str(n) for n in range(10 ** 8))",
    ] {
        let (_, outcome) = run(&pool, code, limits).await;
        let stopped =
            matches!(outcome, Err(Error::MemoryLimit { limit_bytes }) if limit_bytes == 16 << 20);
        assert!(stopped, "{code}: {outcome:?}");
    }
    // The pool still works.
    assert_eq!(run(&pool, "1 + 1", limits).await.1.unwrap(), json!(2));
}

#[tokio::test]
async fn a_script_within_its_memory_is_left_alone() {
    let limits = Limits {
        memory_bytes: 32 << 20,
        ..limits()
    };
    let code = "rows = ['y' * 1000 for _ in range(10000)]\nlen(rows)";
    assert_eq!(run(&pool(1), code, limits).await.1.unwrap(), json!(10000));
}

#[tokio::test]
async fn output_is_limited_in_every_direction() {
    let pool = pool(1);
    let limits = Limits {
        output_bytes: 100_000,
        ..limits()
    };
    for code in [
        "for n in range(20000):\n    print('some text', n)\n",
        "'x' * 200_000",
    ] {
        let (_, outcome) = run(&pool, code, limits).await;
        assert!(
            matches!(outcome, Err(Error::OutputLimit { .. })),
            "{code}: {outcome:?}"
        );
    }
    let mut script = pool
        .start(source("say('x' * 200_000)", &["say"]), limits)
        .await
        .unwrap();
    assert!(matches!(
        script.next().await,
        Err(Error::OutputLimit { .. })
    ));
}

#[tokio::test]
async fn a_worker_that_dies_is_reported_and_replaced() {
    let pool = pool(1);
    let mut script = start(&pool, "while True:\n    pass\n", &[]).await;
    let id = script.meter().process_id().unwrap();
    assert!(script.worker_bytes() > 0 || script.meter().process_id().is_some());
    let killed = tokio::process::Command::new("kill")
        .args(["-9", &id.to_string()])
        .status()
        .await;
    assert!(killed.unwrap().success());
    let outcome = script.next().await;
    assert!(
        matches!(&outcome, Err(Error::WorkerDied { status }) if status.contains('9')),
        "{outcome:?}"
    );
    assert_eq!(
        run(&pool, "'alive'", limits()).await.1.unwrap(),
        json!("alive")
    );
}

#[tokio::test]
async fn dropping_a_script_kills_its_worker() {
    let script = start(&pool(1), "while True:\n    pass\n", &[]).await;
    let id = script.meter().process_id().unwrap();
    drop(script);
    assert_gone(id).await;
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
    let pool = pool(2);
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
    let mut script = pool.start(source(code, &["ask"]), limits).await.unwrap();
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
async fn waiting_for_a_worker_can_be_given_up() {
    let pool = pool(1);
    let busy = start(&pool, "while True:\n    pass\n", &[]).await;
    let waiting = pool.start(source("1", &[]), limits());
    assert!(
        tokio::time::timeout(Duration::from_millis(50), waiting)
            .await
            .is_err()
    );
    drop(busy);
    assert_eq!(run(&pool, "2", limits()).await.1.unwrap(), json!(2));
}

#[tokio::test]
async fn a_dropped_step_loses_nothing() {
    let mut script = start(
        &pool(1),
        "x = 0\nfor n in range(300000):\n    x = x + n\nx",
        &[],
    )
    .await;
    assert!(
        tokio::time::timeout(Duration::ZERO, script.next())
            .await
            .is_err()
    );
    assert_eq!(finish(&mut script).await, json!(44_999_850_000_u64));
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_said() {
    let pool = ScriptPool::new(Config {
        program: "/does/not/exist".into(),
        workers: 1,
        warm: 1,
    });
    assert!(matches!(
        pool.start(source("1", &[]), limits()).await,
        Err(Error::Start(_))
    ));
}
