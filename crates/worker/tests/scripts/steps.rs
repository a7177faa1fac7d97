//! What a script can do, step by step.

use std::time::Duration;

use netra_worker::{Error, ScriptException, Step};
use serde_json::{Value, json};

use crate::driver::{call, finish, limits, pool, run, source, start};
use crate::someone::someone;

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
    let mut script = pool(1).start(&someone(1), given, limits()).await.unwrap();
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
async fn the_process_of_a_script_could_reach_nothing_either() {
    let mut script = start(&pool(1), "ask()", &["ask"]).await;
    script.next().await.unwrap();
    let process = script.meter().process_id().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let is = |line: &str| status.lines().any(|found| found == line);
    assert!(is("NoNewPrivs:\t1") && is("Seccomp:\t2"), "{status}");
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
