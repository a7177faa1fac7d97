//! Every limit gone over, and workers that misbehave.

use std::time::{Duration, Instant};

use netra_worker::{Config, Error, Limits, ScriptPool, Step};
use serde_json::{Value, json};

use crate::driver::{assert_gone, impostor, limits, pool, run, source, start};
use crate::someone::someone;

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
        .start(&someone(1), source(code, &["tick"]), limits)
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
async fn a_worker_that_talks_nonsense_is_ended() {
    let frame = |text: &str| {
        format!(
            "printf '\\000\\{:03o}\\000\\000\\000%s' '{text}'; exec sleep 60",
            text.len()
        )
    };
    let cases = [
        (
            "printf 'hello, world'; exec sleep 60".to_owned(),
            "protocol",
        ),
        (frame(r#"{"Unknown":{}}"#), "protocol"),
        (
            frame(r#"{"Waiting":{"pending":[7],"computed_us":0}}"#),
            "protocol",
        ),
        (
            frame(r#"{"Call":{"id":1,"name":"root","args":[],"kwargs":{},"computed_us":0}}"#),
            "protocol",
        ),
        (
            "printf '\\000\\377\\377\\377\\377'; exec sleep 60".to_owned(),
            "output",
        ),
        ("exit 3".to_owned(), "died"),
        ("exec >&-; exec sleep 60".to_owned(), "died"),
    ];
    for (program, expected) in cases {
        let (_directory, pool) = impostor(&program);
        let mut script = pool
            .start(&someone(1), source("1", &[]), limits())
            .await
            .unwrap();
        let id = script.meter().process_id().unwrap();
        let error = script.next().await.unwrap_err();
        let found = match &error {
            Error::Protocol(_) => "protocol",
            Error::OutputLimit { .. } => "output",
            Error::WorkerDied { .. } => "died",
            other => panic!("{program}: {other:?}"),
        };
        assert_eq!(found, expected, "{program}: {error:?}");
        assert_gone(id).await;
    }
}

#[tokio::test]
async fn a_worker_that_does_not_answer_is_killed_after_its_time() {
    // A program that starts, reads nothing and says nothing.
    let (_directory, pool) = impostor("while :; do :; done");
    let limits = Limits {
        run_time: Duration::from_millis(50),
        ..limits()
    };
    let mut script = pool
        .start(&someone(1), source("1", &[]), limits)
        .await
        .unwrap();
    let id = script.meter().process_id().unwrap();
    let outcome = script.next().await;
    assert!(
        matches!(outcome, Err(Error::TimeLimit { .. })),
        "{outcome:?}"
    );
    assert!(script.meter().process_id().is_none());
    assert_gone(id).await;
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
async fn a_value_that_the_account_has_no_room_for_is_refused_before_it_is_read() {
    let pool = pool(1);
    let account = netra_memory::Account::user();
    let limit = 12 << 20;
    account.set_limit(limit);
    for (code, fits) in [
        ("[0] * 1000", true),
        ("[0] * 100_000", false),
        ("[[0]] * 60_000", false),
    ] {
        let (_, outcome) = account.scope().wrap(run(&pool, code, limits())).await;
        match outcome {
            Ok(_) => assert!(fits, "{code}"),
            Err(Error::NoRoom(over)) => assert!(!fits && over.limit == limit, "{code}: {over}"),
            Err(error) => panic!("{code}: {error}"),
        }
        assert!(account.current_bytes() < 1 << 20);
    }
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
        .start(&someone(1), source("say('x' * 200_000)", &["say"]), limits)
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
async fn a_worker_stands_back_from_its_first_moment() {
    // A program that does nothing for that itself.
    let (_directory, pool) = impostor("while read line; do :; done");
    let script = start(&pool, "1", &[]).await;
    let id = script.meter().process_id().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields = stat.rsplit_once(") ").unwrap().1;
    let nice: i32 = fields.split(' ').nth(16).unwrap().parse().unwrap();
    let here = rustix::process::getpriority_process(None).unwrap();
    assert_eq!(nice, (here + 10).min(19));
}

#[tokio::test]
async fn one_processor_stays_the_servers_own() {
    let script = start(&pool(1), "while True:\n    pass\n", &[]).await;
    let id = script.meter().process_id().unwrap();
    let id = rustix::process::Pid::from_raw(id.try_into().unwrap());
    let here = rustix::thread::sched_getaffinity(None).unwrap();
    let there = rustix::thread::sched_getaffinity(id).unwrap();
    let first = (0..1024).find(|processor| here.is_set(*processor)).unwrap();
    assert_eq!(there.is_set(first), here.count() == 1);
    assert_eq!(there.count(), (here.count() - 1).max(1));
}

#[tokio::test]
async fn dropping_a_script_kills_its_worker() {
    let script = start(&pool(1), "while True:\n    pass\n", &[]).await;
    let id = script.meter().process_id().unwrap();
    drop(script);
    assert_gone(id).await;
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_said() {
    let pool = ScriptPool::new(Config {
        program: "/does/not/exist".into(),
        workers: 1,
        warm: 1,
    });
    assert!(matches!(
        pool.start(&someone(1), source("1", &[]), limits()).await,
        Err(Error::Start(_))
    ));
}
