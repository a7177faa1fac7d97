//! Secrets of the server for its users' tools, from a file that only the operator reads.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use netra_context::Secret;
use netra_store::secret::{MIN_SECRET_BYTES, ServerSecret, is_place, is_secret_name};
use serde::Deserialize;
use zeroize::Zeroizing;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    value: Secret,
    hosts: Vec<String>,
}

/// A file that nobody but its owner may read. Errors name it.
pub(crate) fn private_text(path: &Path) -> Result<Zeroizing<String>, String> {
    let at = |problem: &dyn std::fmt::Display| format!("{}: {problem}", path.display());
    let metadata = fs::metadata(path).map_err(|error| at(&error))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(at(&"it can be read by others: set its mode to 0600"));
    }
    let text = fs::read_to_string(path).map_err(|error| at(&error))?;
    Ok(Zeroizing::new(text))
}

/// Reads the file: a table for each secret, with `value` and `hosts`. No error shows a value.
pub(crate) fn read(path: &Path) -> Result<BTreeMap<String, ServerSecret>, String> {
    let at = |problem: &dyn std::fmt::Display| format!("{}: {problem}", path.display());
    let text = private_text(path)?;
    // The parser's own error shows the line, and with it the value.
    let entries: BTreeMap<String, Entry> = toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| {
            let before = text.bytes().take(span.start);
            before.filter(|byte| *byte == b'\n').count() + 1
        });
        at(&format!(
            "line {line} is wrong: a table for each secret, with `value` and `hosts`"
        ))
    })?;
    let mut secrets = BTreeMap::new();
    for (name, entry) in entries {
        let wrong = if !is_secret_name(&name) {
            Some("a name has 1 to 64 letters, digits, `.`, `_` or `-`")
        } else if entry.value.expose().len() < MIN_SECRET_BYTES {
            Some("a value has at least 8 bytes")
        } else if !entry.hosts.iter().all(|host| is_place(host)) {
            Some("`hosts` are hosts in lower case, with a port where it is not 443")
        } else {
            None
        };
        if let Some(problem) = wrong {
            return Err(at(&format!("{name:?}: {problem}")));
        }
        let secret = ServerSecret {
            value: entry.value,
            places: entry.hosts,
        };
        secrets.insert(name, secret);
    }
    Ok(secrets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_no_mistake_shows_a_value() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets.toml");
        let with = |text: &str, mode: u32| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            read(&path)
        };
        let good = "[wiki]\nvalue = \"canary-of-wiki\"\nhosts = [\"wiki.example\"]\n";
        let read = with(good, 0o600).unwrap();
        assert_eq!(read["wiki"].value.expose(), "canary-of-wiki");
        assert_eq!(read["wiki"].places, ["wiki.example"]);
        assert!(with(good, 0o644).unwrap_err().contains("0600"));
        for (wrong, words) in [
            ("[wiki]\nvalue = \"canary-of-wiki\"\n", "line 1 is wrong"),
            ("\n[wiki]\nvalue = \"canary-of-wiki", "line 3 is wrong"),
            (
                "[wiki]\nvalue = \"canary-of-wiki\"\nhosts = [\"*\"]",
                "`hosts`",
            ),
            (
                "[\"a b\"]\nvalue = \"canary-of-wiki\"\nhosts = []",
                "a name has",
            ),
            ("[wiki]\nvalue = \"canary\"\nhosts = []", "at least 8"),
        ] {
            let told = with(wrong, 0o600).unwrap_err();
            assert!(told.contains(words) && !told.contains("canary"), "{told}");
        }
    }
}
