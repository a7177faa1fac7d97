//! Work on files in real worker processes: results, progress, and every limit gone over.

#[path = "probe/someone.rs"]
mod someone;

use std::time::Duration;

use netra_worker::{Analysis, AnalysisLimits, AnalysisPool, Config, Error, InputFile, Job};
use serde_json::{Value, json};
use someone::someone;

fn pool(workers: usize) -> AnalysisPool {
    let program = env!("CARGO_BIN_EXE_netra-worker-probe");
    AnalysisPool::new(Config {
        program: program.into(),
        workers,
        warm: 0,
    })
}

fn limits() -> AnalysisLimits {
    AnalysisLimits {
        memory_bytes: 32 << 20,
        wall_time: Duration::from_secs(10),
        output_bytes: 100_000,
    }
}

async fn run(analysis: &mut Analysis, op: &str, arguments: Value) -> Result<Value, Error> {
    let job = Job {
        op: op.to_owned(),
        arguments,
        inputs: Vec::new(),
    };
    analysis.run(&job, &mut |_, _| {}).await
}

#[tokio::test]
async fn a_job_reads_its_files_reports_progress_and_answers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.csv");
    std::fs::write(&path, "a,b\n1,2\n").unwrap();
    let input = InputFile {
        name: "log.csv".to_owned(),
        media_type: "text/csv".to_owned(),
        path,
    };
    let job = Job {
        op: "sizes".to_owned(),
        arguments: Value::Null,
        inputs: vec![input],
    };
    let mut heard = Vec::new();
    let mut analysis = pool(1).open(&someone(1), limits());
    let result = analysis
        .run(&job, &mut |share, word| {
            heard.push((share, word.to_owned()))
        })
        .await;
    assert_eq!(result.unwrap(), json!([{ "name": "log.csv", "size": 8 }]));
    assert_eq!(heard, [(0.5, "measuring".to_owned())]);
}

#[tokio::test]
async fn the_real_jobs_run_in_a_worker() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.csv");
    let rows = "TIMESTAMP,ContextTokens,GeneratedTokens\n\
                2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,3180,8";
    std::fs::write(&path, rows).unwrap();
    let input = InputFile {
        name: "log.csv".to_owned(),
        media_type: "text/csv".to_owned(),
        path,
    };
    let profile = Job {
        op: "log_profile".to_owned(),
        arguments: json!({}),
        inputs: vec![input],
    };
    let mut analysis = pool(1).open(&someone(1), limits());
    let result = analysis.run(&profile, &mut |_, _| {}).await.unwrap();
    assert_eq!(result["input_tokens"]["total"], json!(7988));
    match run(&mut analysis, "log_nothing", json!({})).await {
        Err(Error::Job(error)) => assert_eq!(error.code, "unknown_operation"),
        other => panic!("no failure: {other:?}"),
    }
}

#[tokio::test]
async fn one_run_has_one_process_and_another_run_another() {
    let pool = pool(1);
    let (mut one, mut other) = (
        pool.open(&someone(1), limits()),
        pool.open(&someone(1), limits()),
    );
    let first = run(&mut one, "process", Value::Null).await.unwrap();
    assert_eq!(
        first["id"].as_u64().map(|id| id as u32),
        one.meter().process_id()
    );
    assert!(one.meter().bytes() > 0);
    assert_eq!(run(&mut one, "process", Value::Null).await.unwrap(), first);
    assert_ne!(
        run(&mut other, "process", Value::Null).await.unwrap()["id"],
        first["id"]
    );
}

#[tokio::test]
async fn a_worker_inherits_nothing_of_the_server() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    let _open = std::fs::File::open(secret.path()).unwrap();
    let mut analysis = pool(1).open(&someone(1), limits());
    let process = run(&mut analysis, "process", Value::Null).await.unwrap();
    let seen = std::path::PathBuf::from(format!("/proc/{}", process["id"]));
    assert_eq!(std::fs::read(seen.join("environ")).unwrap(), b"");
    let descriptors: Vec<String> = (0..)
        .map_while(|number| std::fs::read_link(seen.join(format!("fd/{number}"))).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .collect();
    assert!(descriptors[0].starts_with("pipe:") && descriptors[1].starts_with("pipe:"));
    assert_eq!(descriptors[2], "/dev/null");
    assert!(
        descriptors[3].ends_with("/status"),
        "its own: {descriptors:?}"
    );
    assert_eq!(std::fs::read_dir(seen.join("fd")).unwrap().count(), 4);
}

/// The number of the error that a job got from the system.
async fn refused(analysis: &mut Analysis, op: &str, arguments: Value) -> Option<i64> {
    match run(analysis, op, arguments).await {
        Err(Error::Job(error)) => error.details?.as_i64(),
        _ => None,
    }
}

#[tokio::test]
async fn a_worker_reads_its_files_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let own = directory.path().join("own.csv");
    let others = directory.path().join("another-users.csv");
    std::fs::write(&own, "mine").unwrap();
    std::fs::write(&others, "not mine").unwrap();
    let input = |path: &std::path::Path| InputFile {
        name: "log.csv".to_owned(),
        media_type: "text/csv".to_owned(),
        path: path.to_owned(),
    };
    let job = |op: &str, path: &std::path::Path, input| Job {
        op: op.to_owned(),
        arguments: json!({ "path": path }),
        inputs: vec![input],
    };
    let mut analysis = pool(1).open(&someone(1), limits());
    let first = job("read", &own, input(&own));
    let text = analysis.run(&first, &mut |_, _| {}).await.unwrap();
    assert_eq!(text, json!("mine"));

    let paths = [
        others.as_path(),
        "/etc/shadow".as_ref(),
        "/proc/1/environ".as_ref(),
    ];
    for path in paths {
        let path = json!({ "path": path });
        assert_eq!(refused(&mut analysis, "read", path).await, Some(13));
    }
    // Landlock does not look at this.
    let path = json!({ "path": others });
    assert_eq!(refused(&mut analysis, "chmod", path).await, Some(1));
    let folder = json!({ "path": directory.path() });
    assert_eq!(refused(&mut analysis, "list", folder).await, Some(13));

    // A file that a later job of the run is given.
    let later = job("read", &others, input(&others));
    let text = analysis.run(&later, &mut |_, _| {}).await.unwrap();
    assert_eq!(text, json!("not mine"));
    let again = analysis.run(&first, &mut |_, _| {}).await.unwrap();
    assert_eq!(again, json!("mine"));
}

#[tokio::test]
async fn a_worker_without_files_opens_none_and_no_worker_starts_or_connects_anything() {
    let mut analysis = pool(1).open(&someone(1), limits());
    let own = json!({ "path": std::env::current_exe().unwrap() });
    assert_eq!(refused(&mut analysis, "read", own).await, Some(1));
    for op in ["spawn", "connect", "unix_socket"] {
        assert_eq!(refused(&mut analysis, op, json!({})).await, Some(1), "{op}");
    }
}

#[tokio::test]
async fn a_failed_job_says_why_and_leaves_the_process_usable() {
    let mut analysis = pool(1).open(&someone(1), limits());
    match run(&mut analysis, "nothing", Value::Null).await {
        Err(Error::Job(error)) => {
            assert_eq!(
                (error.code.as_str(), error.details),
                ("unknown_op", Some(json!({ "op": "nothing" })))
            );
        }
        other => panic!("no failure: {other:?}"),
    }
    let id = analysis.meter().process_id();
    assert!(id.is_some());
    assert!(run(&mut analysis, "process", Value::Null).await.is_ok());
    assert_eq!(analysis.meter().process_id(), id);
}

#[tokio::test]
async fn memory_is_limited_for_one_block_and_for_many() {
    let mut analysis = pool(1).open(&someone(1), limits());
    let within = run(&mut analysis, "allocate", json!({ "bytes": 20 << 20 })).await;
    assert_eq!(within.unwrap(), json!(20 << 20));
    for (op, bytes) in [
        ("allocate", 64_u64 << 20),
        ("allocate", 1 << 50),
        ("hoard", 0),
    ] {
        let outcome = run(&mut analysis, op, json!({ "bytes": bytes })).await;
        let stopped =
            matches!(outcome, Err(Error::MemoryLimit { limit_bytes }) if limit_bytes == 32 << 20);
        assert!(stopped, "{op} {bytes}: {outcome:?}");
    }
    assert!(
        run(&mut analysis, "process", Value::Null).await.is_ok(),
        "the next job has a new process"
    );
}

#[tokio::test]
async fn a_parquet_file_that_lies_about_its_size_meets_the_limit_of_its_worker() {
    let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../analytics/tests/data");
    let job = |name: &str| Job {
        op: "log_profile".to_owned(),
        arguments: json!({}),
        inputs: vec![InputFile {
            name: name.to_owned(),
            media_type: String::new(),
            path: data.join(name),
        }],
    };
    let limits = AnalysisLimits {
        memory_bytes: 128 << 20,
        ..limits()
    };
    let mut analysis = pool(1).open(&someone(1), limits);
    let outcome = analysis.run(&job("bomb.parquet"), &mut |_, _| {}).await;
    assert!(
        matches!(outcome, Err(Error::MemoryLimit { .. })),
        "300 MiB in a file of 10 KiB: {outcome:?}"
    );
    let after = analysis.run(&job("pyarrow.parquet"), &mut |_, _| {}).await;
    assert_eq!(after.unwrap()["rows"], json!(4));
}

#[tokio::test]
async fn time_is_limited() {
    let limits = AnalysisLimits {
        wall_time: Duration::from_millis(200),
        ..limits()
    };
    let mut analysis = pool(1).open(&someone(1), limits);
    let outcome = run(&mut analysis, "spin", Value::Null).await;
    assert!(
        matches!(outcome, Err(Error::TimeLimit { limit }) if limit == limits.wall_time),
        "{outcome:?}"
    );
    assert_eq!(analysis.meter().process_id(), None);
}

#[tokio::test]
async fn output_is_limited() {
    let mut analysis = pool(1).open(&someone(1), limits());
    let outcome = run(&mut analysis, "talk", Value::Null).await;
    assert!(
        matches!(
            outcome,
            Err(Error::OutputLimit {
                limit_bytes: 100_000
            })
        ),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_bug_in_a_job_is_a_dead_worker_and_no_more() {
    let mut analysis = pool(1).open(&someone(1), limits());
    let outcome = run(&mut analysis, "panic", Value::Null).await;
    assert!(
        matches!(outcome, Err(Error::WorkerDied { .. })),
        "{outcome:?}"
    );
    assert!(run(&mut analysis, "process", Value::Null).await.is_ok());
}

#[tokio::test]
async fn a_worker_cannot_write_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("written");
    let mut analysis = pool(1).open(&someone(1), limits());
    assert!(
        run(&mut analysis, "write", json!({ "path": path }))
            .await
            .is_err()
    );
    assert!(!path.exists());
}

#[tokio::test]
async fn a_dropped_job_takes_its_process_with_it_and_frees_its_turn() {
    let pool = pool(1);
    let mut analysis = pool.open(&someone(1), limits());
    let job = run(&mut analysis, "spin", Value::Null);
    assert!(
        tokio::time::timeout(Duration::from_millis(100), job)
            .await
            .is_err()
    );
    assert_eq!(analysis.meter().process_id(), None);
    assert!(
        run(
            &mut pool.open(&someone(1), limits()),
            "process",
            Value::Null
        )
        .await
        .is_ok()
    );
}

/// A database would allocate with the C library, which is not counted, and which only the kernel's limit stops: beyond
/// twice the worker's.
#[tokio::test]
async fn a_database_has_no_more_memory_than_its_worker() {
    let limits = AnalysisLimits {
        memory_bytes: 64 << 20,
        ..limits()
    };
    let mut analysis = pool(1).open(&someone(1), limits);
    let numbers = |to: u32| {
        json!({ "query": format!(
            "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < {to}) \
             SELECT count(*) FROM (SELECT hex(randomblob(500)) AS x FROM t ORDER BY x)"
        ) })
    };
    let small = run(&mut analysis, "sql_query", numbers(10_000)).await;
    assert_eq!(small.unwrap()["rows"], json!([[10_000]]));
    let id = analysis.meter().process_id();
    assert!(id.is_some());
    let large = run(&mut analysis, "sql_query", numbers(80_000)).await;
    assert!(
        matches!(large, Err(Error::MemoryLimit { limit_bytes }) if limit_bytes == 64 << 20),
        "{large:?}"
    );
    assert_eq!(analysis.meter().process_id(), None);
    let again = run(&mut analysis, "sql_query", numbers(10)).await;
    assert_eq!(again.unwrap()["rows"], json!([[10]]));
}
