//! What only one crate may speak of, and attributes that nobody may use.

use super::source::Source;
use crate::finding::Finding;

/// Words of code that belong to certain places.
struct Owned {
    rule: &'static str,
    words: &'static [&'static str],
    /// Crates, or beginnings of paths, where the words are at home.
    homes: &'static [&'static str],
    /// Whether test code may use them anywhere.
    free_in_tests: bool,
    why: &'static str,
}

const OWNED: [Owned; 10] = [
    Owned {
        rule: "database",
        words: &["rusqlite", "sqlx", "tokio_postgres", "fred"],
        homes: &["store", USERS_SQL, USERS_SQL_FILE],
        free_in_tests: false,
        why: "only crates/store speaks to a database, and users' SQL has its place in crates/analytics/src/sql",
    },
    Owned {
        rule: "status code",
        words: &["StatusCode"],
        homes: &["gateway", "client", "crates/mcp/src/web.rs"],
        free_in_tests: false,
        why: "only crates/gateway knows HTTP status codes (clients read them)",
    },
    Owned {
        rule: "environment",
        words: &["env::var", "env::var_os", "env::vars", "env::vars_os"],
        // A build script learns its folder from nothing else, and tests on which database they run.
        homes: &[
            "netra",
            "xtask",
            "crates/gateway/build.rs",
            "crates/store/tests/store/backend.rs",
        ],
        free_in_tests: false,
        why: "only crates/netra reads the environment",
    },
    // A test that starts a program of its own tells it what to do by arguments.
    Owned {
        rule: "arguments",
        words: &["env::args", "env::args_os"],
        homes: &["netra", "xtask"],
        free_in_tests: true,
        why: "only crates/netra reads arguments",
    },
    Owned {
        rule: "spawn",
        words: &["tokio::spawn", "task::spawn", "task::spawn_local"],
        homes: &["crates/context/src/runtime"],
        free_in_tests: true,
        why: "tasks are spawned by netra_context::runtime, which gives them a kind",
    },
    Owned {
        rule: "unsafe",
        words: &["unsafe"],
        homes: &["memory"],
        free_in_tests: false,
        why: "only crates/memory may be unsafe",
    },
    Owned {
        rule: "ambient state",
        words: &["thread_local!", "task_local!"],
        homes: &["memory", "crates/context/src/runtime"],
        free_in_tests: true,
        why: "what a request needs is passed to it",
    },
    Owned {
        rule: "context",
        words: &["UserExecutionContext::for_request"],
        homes: &["context", "gateway"],
        free_in_tests: true,
        why: "a context is built from credentials by the gateway only",
    },
    Owned {
        rule: "context",
        words: &["UserExecutionContext::for_run"],
        homes: &["context", "engine"],
        free_in_tests: true,
        why: "a context is rebuilt from a stored run by the engine only",
    },
    Owned {
        rule: "context",
        words: &["UserExecutionContext::for_test"],
        homes: &["context"],
        free_in_tests: true,
        why: "a context for tests is for tests",
    },
];

/// Attributes that nobody may use, and what to do instead.
const BANNED_ATTRIBUTES: [(&str, &str, &str); 4] = [
    (
        "#[allow(",
        "no allow",
        "use #[expect(lint, reason = \"…\")]",
    ),
    (
        "#![allow(",
        "no allow",
        "use #![expect(lint, reason = \"…\")]",
    ),
    (
        "#[ignore",
        "no ignore",
        "a test that does not run proves nothing: make it run or drop it",
    ),
    (
        "#[should_panic",
        "no should_panic",
        "assert on the error that is returned",
    ),
];

/// Beginnings of SQL, in capitals as SQL is written here; all words of a row in one text.
const SQL: [&[&str]; 8] = [
    &["SELECT ", " FROM "],
    &["INSERT INTO "],
    &["INSERT OR "],
    &["UPDATE ", " SET "],
    &["DELETE FROM "],
    &["CREATE TABLE "],
    &["CREATE INDEX "],
    &["PRAGMA "],
];

/// Where the users' own SQL is answered, over their own files, in memory and in a worker (decision 0012). No SQL about
/// the server's data may be there.
const USERS_SQL: &str = "crates/analytics/src/sql/";
const USERS_SQL_FILE: &str = "crates/analytics/src/sql.rs";

/// One recorder of metrics for each process is how the `metrics` crate works.
const METRICS_RECORDER: &str = "crates/netra/src/metrics.rs";

/// Types that make a static one that can change.
const CHANGEABLE: [&str; 8] = [
    "Mutex<",
    "RwLock<",
    "OnceLock<",
    "OnceCell<",
    "RefCell<",
    "Cell<",
    "Atomic",
    "DashMap<",
];

pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut refuse = |at: usize, rule: &'static str, text: &str| {
        let line = Some(source.line(at));
        findings.push(Finding::new(&source.path, line, rule, text.to_owned()));
    };
    for (attribute, rule, instead) in BANNED_ATTRIBUTES {
        source
            .code
            .match_indices(attribute)
            .for_each(|(at, _)| refuse(at, rule, instead));
    }
    // End-to-end tests look at everything from outside: status codes, files, environment.
    if source.owner() == "integration" {
        return findings;
    }
    for owned in OWNED.iter().filter(|owned| !owned.is_home(source)) {
        for word in owned.words {
            let used = source
                .words(word)
                .filter(|at| !(owned.free_in_tests && source.is_test(*at)));
            used.for_each(|at| refuse(at, owned.rule, owned.why));
        }
    }
    let users_sql = source.path.starts_with(USERS_SQL) || source.path == USERS_SQL_FILE;
    if !users_sql && !["store", "xtask"].contains(&source.owner()) {
        sql(source)
            .into_iter()
            .for_each(|at| refuse(at, "SQL", "only crates/store knows SQL"));
    }
    let recorder = source.path == METRICS_RECORDER;
    if !recorder && !["memory", "xtask"].contains(&source.owner()) {
        let why = "a static that can change is shared between requests";
        changeable_statics(source)
            .into_iter()
            .for_each(|at| refuse(at, "static", why));
    }
    findings
}

impl Owned {
    fn is_home(&self, source: &Source) -> bool {
        let at_home = |home: &&str| {
            if home.contains('/') {
                source.path.starts_with(*home)
            } else {
                source.owner() == *home
            }
        };
        self.homes.iter().any(at_home)
    }
}

/// Where a text begins that holds SQL.
fn sql(source: &Source) -> Vec<usize> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(start) = source.strings[from..].find('"').map(|at| from + at) {
        // Texts are told apart by their quotes; the gap between two of them is blank.
        let end = source.strings[start + 1..]
            .find('"')
            .map_or(source.strings.len(), |at| start + 1 + at + 1);
        let text = source.strings[start..end].replace('\n', " ");
        let is_sql = SQL
            .iter()
            .any(|words| words.iter().all(|word| text.contains(word)));
        if is_sql && !source.is_test(start) {
            found.push(start);
        }
        from = end;
    }
    found
}

fn changeable_statics(source: &Source) -> Vec<usize> {
    let is_changeable = |at: &usize| {
        // `'static` is a lifetime, and `static` in a closure has no colon before its end.
        let lifetime = source.code[..*at].ends_with('\'');
        let rest = &source.code[*at..];
        let declared = rest.split(['=', ';', '{', ')']).next().unwrap_or_default();
        let typed = declared.contains(':') && CHANGEABLE.iter().any(|kind| declared.contains(kind));
        !lifetime && (typed || declared.starts_with("static mut "))
    };
    source
        .words("static")
        .filter(is_changeable)
        .filter(|at| !source.is_test(*at))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<&'static str> {
        check(&Source::new(path, text))
            .into_iter()
            .map(|finding| finding.rule)
            .collect()
    }

    fn in_engine(text: &str) -> Vec<&'static str> {
        rules("crates/engine/src/lib.rs", text)
    }

    #[test]
    fn what_belongs_to_one_crate_fails_in_another() {
        for (text, home, rule) in [
            (
                "use rusqlite::Connection;",
                "crates/store/src/a.rs",
                "database",
            ),
            (
                "fn f(code: StatusCode) {}",
                "crates/gateway/src/a.rs",
                "status code",
            ),
            (
                "let a = std::env::args();",
                "crates/netra/src/a.rs",
                "arguments",
            ),
            (
                "let a = env::var(\"HOME\");",
                "crates/netra/src/a.rs",
                "environment",
            ),
            (
                "tokio::spawn(f());",
                "crates/context/src/runtime.rs",
                "spawn",
            ),
            (
                "tokio::spawn(f());",
                "crates/context/src/runtime/tasks.rs",
                "spawn",
            ),
            ("unsafe { f() }", "crates/memory/src/a.rs", "unsafe"),
            (
                "thread_local! {}",
                "crates/memory/src/a.rs",
                "ambient state",
            ),
            (
                "let c = UserExecutionContext::for_request(a);",
                "crates/gateway/src/a.rs",
                "context",
            ),
            (
                "let q = \"DELETE FROM runs\";",
                "crates/store/src/a.rs",
                "SQL",
            ),
            (
                "static A: Mutex<u8> = x;",
                "crates/memory/src/a.rs",
                "static",
            ),
        ] {
            assert_eq!(in_engine(text), [rule], "{text}");
            assert_eq!(rules(home, text), [""; 0], "{text}");
        }
        assert_eq!(
            rules("crates/context/src/lib.rs", "tokio::spawn(f());"),
            ["spawn"]
        );
    }

    #[test]
    fn sql_is_found_over_several_lines_and_prose_is_not_sql() {
        assert_eq!(in_engine("f(\"SELECT id\n  FROM runs\");"), ["SQL"]);
        assert_eq!(in_engine("f(r#\"INSERT INTO runs\"#);"), ["SQL"]);
        assert_eq!(in_engine("f(\"select a file from the list\");"), [""; 0]);
        assert_eq!(in_engine("f(\"SELECT it\"); g(\" FROM here\");"), [""; 0]);
        assert_eq!(in_engine("// DELETE FROM runs\n"), [""; 0]);
    }

    #[test]
    fn the_sql_of_users_has_one_place() {
        let text = "use rusqlite::Row;\nfn f() { g(\"INSERT INTO a\"); }";
        for home in [USERS_SQL_FILE, "crates/analytics/src/sql/load.rs"] {
            assert_eq!(rules(home, text), [""; 0], "{home}");
        }
        for elsewhere in [
            "crates/analytics/src/cost.rs",
            "crates/worker/src/analysis.rs",
        ] {
            assert_eq!(rules(elsewhere, text), ["database", "SQL"], "{elsewhere}");
        }
    }

    #[test]
    fn attributes_that_hide_or_skip_fail_everywhere() {
        for (text, rule) in [
            ("#[allow(dead_code)]", "no allow"),
            ("#![allow(dead_code)]", "no allow"),
            ("#[ignore]", "no ignore"),
            ("#[ignore = \"slow\"]", "no ignore"),
            ("#[should_panic]", "no should_panic"),
        ] {
            assert_eq!(in_engine(text), [rule], "{text}");
            assert_eq!(
                rules("crates/integration/tests/it.rs", text),
                [rule],
                "{text}"
            );
        }
        assert_eq!(in_engine("#[expect(dead_code, reason = \"x\")]"), [""; 0]);
    }

    #[test]
    fn tests_are_spared_where_that_is_sensible() {
        let text = "#[cfg(test)]\nmod tests {\n    fn f() { tokio::spawn(g()); }\n}\n";
        assert_eq!(in_engine(text), [""; 0]);
        assert_eq!(
            rules("crates/integration/src/lib.rs", "use reqwest::StatusCode;"),
            [""; 0]
        );
        let text = "#[cfg(test)]\nmod tests {\n    fn f() { std::env::var(\"A\"); }\n}\n";
        assert_eq!(in_engine(text), ["environment"]);
        let text = "fn main() { std::env::args(); }";
        assert_eq!(rules("crates/engine/tests/child.rs", text), [""; 0]);
    }

    #[test]
    fn constant_statics_and_lifetimes_pass() {
        for good in [
            "static NAMES: [&str; 2] = [\"a\", \"b\"];",
            "static PRICES: LazyLock<Prices> = LazyLock::new(read);",
            "fn f(a: &'static Mutex<u8>) {}",
            "struct A { b: &'static str, c: Mutex<u8> }",
        ] {
            assert_eq!(in_engine(good), [""; 0], "{good}");
        }
        let recorder = "static HANDLE: OnceLock<Handle> = OnceLock::new();";
        assert_eq!(rules(METRICS_RECORDER, recorder), [""; 0]);
        assert_eq!(rules("crates/netra/src/serve.rs", recorder), ["static"]);
        assert_eq!(in_engine("static mut COUNT: u32 = 0;"), ["static"]);
        assert_eq!(
            in_engine("static COUNT: AtomicU32 = AtomicU32::new(0);"),
            ["static"]
        );
    }
}
