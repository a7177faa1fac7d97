//! What a model tries that belongs to somebody else: names of tools, and arguments for them.

use rand::Rng as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::PROBES;

/// The server's own tools that the agent has, and one that asks a person.
pub(super) const BUILT_IN: [&str; 14] = [
    "save_file",
    "read_file",
    "list_files",
    "log_inspect",
    "log_profile",
    "make_chart",
    "consent",
    "http_fetch",
    "remember",
    "recall",
    "forget",
    "sql_query",
    "run_python",
    "earlier_result",
];

/// Those that [`fitting`] calls, which have to begin now and then: else nothing was tried.
pub(super) const REACHED: [&str; 8] = [
    "read_file",
    "list_files",
    "http_fetch",
    "remember",
    "recall",
    "forget",
    "sql_query",
    "run_python",
];

/// Ways to write the machine itself, where somebody listens.
pub(super) fn doors(port: u16) -> Vec<String> {
    let hosts = [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost.",
    ];
    let door = |host: &str| format!("http://{host}:{port}/secrets");
    hosts.map(door).into()
}

/// A call that the tool's schema takes, with what is another's in it.
pub(super) fn fitting(random: &mut StdRng, bait: &[String], doors: &[String]) -> (String, String) {
    let target = target(random, bait);
    let door = &doors[random.random_range(0..doors.len())];
    let port = door
        .rsplit(':')
        .next()
        .and_then(|end| end.split('/').next());
    let reach = format!(
        "import socket\nsocket.create_connection(('127.0.0.1', {}), 2).recv(100)\n",
        port.unwrap_or("80")
    );
    let read = format!("open({target:?}).read() + str(dict(__import__('os').environ))\n");
    let (tool, arguments): (_, Value) = match random.random_range(0..11) {
        0 | 1 => ("http_fetch", json!({ "url": door })),
        2 => ("remember", json!({ "name": "secret", "text": target })),
        3 => ("recall", json!({ "query": "canary" })),
        4 => ("recall", json!({})),
        5 => ("forget", json!({ "name": "secret" })),
        6 => (
            "sql_query",
            json!({ "files": [target], "query": "SELECT * FROM victim" }),
        ),
        7 => ("run_python", json!({ "code": reach })),
        8 => ("run_python", json!({ "code": read, "files": [] })),
        9 => ("read_file", json!({ "file": target })),
        _ => ("list_files", json!({ "limit": 10 })),
    };
    (tool.to_owned(), arguments.to_string())
}

fn pick<'a>(random: &mut StdRng, from: &[&'a str]) -> &'a str {
    from[random.random_range(0..from.len())]
}

pub(super) fn probe(random: &mut StdRng) -> String {
    format!("probe_{}", PROBES[random.random_range(0..PROBES.len())].0)
}

pub(super) fn tool_name(random: &mut StdRng) -> String {
    match random.random_range(0..10) {
        0 => pick(
            random,
            &[
                "",
                "../probe",
                "system",
                "agent",
                "PROBE_BASIC",
                "probe_basic\0",
            ],
        )
        .into(),
        1 => "unlisted".into(),
        2..6 => probe(random),
        _ => pick(random, &BUILT_IN).into(),
    }
}

/// A file of another, by id or name, or a way out of the folder.
fn target(random: &mut StdRng, bait: &[String]) -> String {
    if random.random_bool(0.6) && !bait.is_empty() {
        return bait[random.random_range(0..bait.len())].clone();
    }
    let ways = [
        "../../pwned",
        "/tmp/netra-pwned",
        "..%2f..%2fpwned",
        "files/../../pwned\0.csv",
        "C:\\pwned",
        "file:///etc/passwd",
        "/proc/self/environ",
        "own.csv/../../keys",
    ];
    pick(random, &ways).to_owned()
}

pub(super) fn arguments(random: &mut StdRng, bait: &[String]) -> String {
    let target = target(random, bait);
    let value = match random.random_range(0..12) {
        0 => {
            return pick(
                random,
                &[
                    "",
                    "{",
                    "null",
                    "[]",
                    "\"x\"",
                    "{\"n\": 1e999}",
                    "{\"n\":1}}",
                ],
            )
            .into();
        }
        1 => return "[".repeat(20_000),
        2 => {
            json!({"n": 1, "pad": "x".repeat([1_000, 100_000, 2_000_000][random.random_range(0..3)])})
        }
        3 => json!({"__proto__": {"n": 1}, "user_id": target, "role": "admin"}),
        4 => json!({"n": target}),
        5..7 => json!({"name": target, "content": target}),
        7..9 => json!({"file": target}),
        9 => json!({"file": target, "output": target, "path": target}),
        _ => json!({"n": random.random_range(-3..100)}),
    };
    value.to_string()
}
