//! Names that say nothing about what a thing holds or does.

use super::source::{self, Source};
use crate::finding::Finding;

const BANNED: [&str; 9] = [
    "manager", "service", "helper", "util", "handler", "wrapper", "impl", "common", "core",
];
/// Fine in the six names that Netra takes over from the document it implements, nowhere else.
const SEED_ONLY: [&str; 2] = ["factory", "bridge"];
const SEED: [&str; 6] = [
    "UserExecutionContext",
    "ExecutionEngineFactory",
    "IsolatedExecutionEngine",
    "WebSocketBridgeFactory",
    "UserWebSocketEmitter",
    "ToolExecutorFactory",
];
/// Modules that hold one of the six.
const SEED_MODULES: [&str; 2] = ["factory", "bridge"];

pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for keyword in ["struct", "enum", "trait", "union", "type", "mod"] {
        for at in source.words(keyword).filter(|at| !source.is_test(*at)) {
            // The name of an associated type is the trait's choice; aliases of our own stand
            // at the left margin.
            if keyword == "type" && source.is_indented(at) {
                continue;
            }
            let rest = source.code[at + keyword.len()..].trim_start();
            let name = rest
                .split(|c| !source::is_word(c))
                .next()
                .unwrap_or_default();
            if let Some(part) = banned_part(keyword, name) {
                let text =
                    format!("{keyword} `{name}`: \"{part}\" does not say what it holds or does");
                findings.push(Finding::new(
                    &source.path,
                    Some(source.line(at)),
                    "name",
                    text,
                ));
            }
        }
    }
    findings
}

fn banned_part(keyword: &str, name: &str) -> Option<String> {
    let seed = if keyword == "mod" {
        SEED_MODULES.contains(&name)
    } else {
        SEED.contains(&name)
    };
    parts(name).into_iter().find(|part| {
        let one = part.strip_suffix('s').unwrap_or(part);
        let is = |list: &[&str]| list.contains(&part.as_str()) || list.contains(&one);
        is(&BANNED) || (is(&SEED_ONLY) && !seed)
    })
}

/// The words of a name, in lower case: `RunManager` and `run_manager` are both two.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for c in name.chars() {
        if c.is_uppercase() || c == '_' {
            parts.push(String::new());
        }
        if let Some(part) = parts.last_mut().filter(|_| c != '_') {
            part.extend(c.to_lowercase());
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> usize {
        check(&Source::new("crates/x/src/lib.rs", text)).len()
    }

    #[test]
    fn empty_words_fail_in_types_and_modules() {
        for bad in [
            "pub struct RunManager;",
            "pub(crate) enum ServiceKind { A }",
            "pub trait ToolHelper {}",
            "struct Utils;",
            "pub struct EventHandler<T>(T);",
            "type ClientWrapper = u8;",
            "pub struct StoreImpl;",
            "pub mod common;",
            "mod core {}",
            "mod text_utils;",
            "pub struct RunFactory;",
            "pub struct EventBridge;",
        ] {
            assert_eq!(names(bad), 1, "{bad}");
        }
    }

    #[test]
    fn telling_names_pass() {
        for good in [
            "pub struct ExecutionEngineFactory;",
            "pub struct WebSocketBridgeFactory;",
            "mod factory;",
            "mod bridge;",
            "pub struct Score;",
            "pub struct Utilisation;",
            "fn error_handler() {}",
            "impl Manager for X {}",
            "impl Layer<S> for X {\n    type Service = Y;\n}",
            "// struct RunManager\nconst A: &str = \"struct RunManager\";",
            "#[cfg(test)]\nmod tests {\n    struct FakeManager;\n}",
        ] {
            assert_eq!(names(good), 0, "{good}");
        }
    }
}
