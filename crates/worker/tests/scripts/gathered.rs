//! Calls as values, what a script keeps, scripts that are only read, and how often one may call.

use netra_worker::{Error, Limits, Source};
use serde_json::{Map, Value, json};

use crate::driver::{call, finish, limits, pool, source, start};
use crate::someone::someone;

#[tokio::test]
async fn a_call_for_later_is_a_value_and_makes_nothing() {
    let code = "jobs = [call(read, file=name) for name in ['a', 'b']]\n\
                jobs.append(call(agent, 'worker', 'go'))\ngather(*jobs, return_errors=True)\n";
    let pool = pool(1);
    let mut script = start(&pool, code, &["read", "agent", "gather", "call"]).await;
    let (_, name, args, kwargs) = call(&mut script).await;
    assert_eq!((name.as_str(), args.len()), ("gather", 3));
    assert_eq!(
        args[0],
        json!({"function": "read", "args": [], "kwargs": {"file": "a"}})
    );
    assert_eq!(args[2]["args"], json!(["worker", "go"]));
    assert_eq!(Value::Object(kwargs), json!({"return_errors": true}));
    script.answer(Ok(json!(["A", "B", 1])));
    assert_eq!(finish(&mut script).await, json!(["A", "B", 1]));
}

#[tokio::test]
async fn only_functions_of_the_server_can_be_called_later() {
    let code = "def own():\n    return 1\nfound = []\n\
                for bad in (own, len, 7):\n    try:\n        call(bad)\n    except TypeError as error:\n        \
                found.append(str(error))\ntry:\n    call()\nexcept TypeError as error:\n    \
                found.append(str(error))\nfound\n";
    let pool = pool(1);
    let mut script = start(&pool, code, &["read", "call"]).await;
    let found = finish(&mut script).await;
    assert_eq!(found.as_array().unwrap().len(), 4, "{found}");
}

fn keeping(code: &str, state: Value) -> Source {
    Source {
        inputs: Map::from_iter([("state".to_owned(), state)]),
        keeps: Some("state".to_owned()),
        ..source(code, &["tool"])
    }
}

#[tokio::test]
async fn what_a_script_keeps_is_given_with_its_end() {
    let pool = pool(1);
    for (code, kept) in [
        (
            "state['n'] = state.get('n', 0) + 1\n'done'\n",
            json!({"n": 8}),
        ),
        (
            "def f():\n    state['deep'] = [tool()]\nf()\n'done'\n",
            json!({"n": 7, "deep": ["x"]}),
        ),
        ("state = {'new': True}\n'done'\n", json!({"new": true})),
        ("'done'\n", json!({"n": 7})),
    ] {
        let source = keeping(code, json!({"n": 7}));
        let mut script = pool.start(&someone(1), source, limits()).await.unwrap();
        if code.contains("tool") {
            call(&mut script).await;
            script.answer(Ok(json!("x")));
        }
        assert_eq!(finish(&mut script).await, json!("done"));
        assert_eq!(script.kept(), Some(kept), "{code}");
    }
    let mut plain = start(&pool, "state = 1\n", &[]).await;
    finish(&mut plain).await;
    assert_eq!(plain.kept(), None);
    for code in ["state['self'] = len\n1\n", "state[b'x'] = 1\n1\n"] {
        let source = keeping(code, json!({}));
        let mut script = pool.start(&someone(1), source, limits()).await.unwrap();
        let error = script.next().await.unwrap_err();
        assert!(error.to_string().contains("state holds"), "{error}");
    }
}

/// The second script needs the only worker while the first one waits.
#[tokio::test]
async fn a_script_that_lost_its_worker_meanwhile_keeps_it_too() {
    let pool = pool(1);
    let source = keeping("state['a'] = tool()\nstate['b'] = tool()\n1\n", json!({}));
    let mut first = pool.start(&someone(1), source, limits()).await.unwrap();
    call(&mut first).await;
    let mut second = start(&pool, "2\n", &[]).await;
    assert_eq!(finish(&mut second).await, json!(2));
    drop(second);
    first.answer(Ok(json!("x")));
    call(&mut first).await;
    first.answer(Ok(json!("y")));
    assert_eq!(finish(&mut first).await, json!(1));
    assert_eq!(first.kept(), Some(json!({"a": "x", "b": "y"})));
}

#[tokio::test]
async fn a_script_is_read_without_being_run() {
    let pool = pool(1);
    let check = async |code: &str| {
        let name = "agents/a/agent.py".to_owned();
        pool.check(&someone(1), name, code.to_owned()).await
    };
    check("tool(1)\nwhile True:\n    pass\n").await.unwrap();
    let Err(Error::Script(error)) = check("x = 1\nif x\n    y = 2\n").await else {
        panic!("it cannot be read");
    };
    assert_eq!((error.kind.as_str(), error.line), ("SyntaxError", Some(2)));
}

#[tokio::test]
async fn a_script_that_calls_without_end_is_ended() {
    let pool = pool(1);
    let limits = Limits {
        suspensions: 3,
        ..limits()
    };
    let source = source("while True:\n    tool()\n", &["tool"]);
    let mut script = pool.start(&someone(1), source, limits).await.unwrap();
    for _ in 0..3 {
        call(&mut script).await;
        script.answer(Ok(Value::Null));
    }
    let error = script.next().await.unwrap_err();
    assert!(
        matches!(error, Error::SuspensionLimit { limit: 3 }),
        "{error:?}"
    );
    drop(script);
    // The worker is away, and another one is there.
    let mut next = start(&pool, "1\n", &[]).await;
    assert_eq!(finish(&mut next).await, json!(1));
}
