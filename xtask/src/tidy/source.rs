//! A Rust file with its comments, texts and test code told apart, so that a rule about code is
//! not tripped by a sentence.

use std::ops::Range;

/// One file. The views have the same length as the file and the same line ends; what does not
/// belong to a view is blank.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    /// Code without comments and without what stands in string literals.
    pub(crate) code: String,
    /// Only what stands in string literals.
    pub(crate) strings: String,
    /// For each line whether it belongs to tests.
    test_lines: Vec<bool>,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let (code, strings) = views(text);
        let all = is_test_file(path);
        let mut test_lines = vec![all; text.lines().count() + 1];
        for range in test_modules(&code) {
            let lines = line_at(text, range.start)..=line_at(text, range.end);
            test_lines[lines].fill(true);
        }
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
            strings,
            test_lines,
        }
    }

    /// The crate that the file belongs to: the folder's name, or `xtask`.
    pub(crate) fn owner(&self) -> &str {
        let mut folders = self.path.split('/');
        match folders.next() {
            Some("crates") => folders.next().unwrap_or_default(),
            first => first.unwrap_or_default(),
        }
    }

    /// Line numbers start at 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        line_at(&self.text, offset) + 1
    }

    pub(crate) fn is_test(&self, offset: usize) -> bool {
        self.test_lines[line_at(&self.text, offset)]
    }

    /// Whether the line begins with a blank.
    pub(crate) fn is_indented(&self, offset: usize) -> bool {
        let line = self.text[..offset].rfind('\n').map_or(0, |end| end + 1);
        self.text[line..].starts_with([' ', '\t'])
    }

    /// Lines outside of inline test modules; of a test file all.
    pub(crate) fn lines_that_count(&self) -> usize {
        let all = self.text.lines().count();
        if is_test_file(&self.path) {
            return all;
        }
        self.test_lines
            .iter()
            .take(all)
            .filter(|test| !**test)
            .count()
    }

    /// Where a word, or a path such as `tokio::spawn`, stands in the code.
    pub(crate) fn words<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        let matches = self.code.match_indices(word);
        matches.map(|(at, _)| at).filter(move |at| {
            let before = self.code[..*at].chars().next_back();
            let after = self.code[at + word.len()..].chars().next();
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        })
    }
}

pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
}

fn is_test_file(path: &str) -> bool {
    path.starts_with("crates/integration/")
        || path.ends_with("/tests.rs")
        || path.ends_with("_tests.rs")
        || path
            .split('/')
            .any(|folder| ["tests", "benches", "examples"].contains(&folder))
}

/// Items under `#[cfg(test)]` or `#[cfg(all(test, …))]`, from the attribute to the end.
fn test_modules(code: &str) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for mark in ["#[cfg(test)]", "#[cfg(all(test,"] {
        for (start, _) in code.match_indices(mark) {
            let end = item_end(code, start + mark.len());
            ranges.push(start..end);
        }
    }
    ranges
}

/// The end of the item that begins at or after `from`: its closing brace or its semicolon.
pub(crate) fn item_end(code: &str, from: usize) -> usize {
    let mut open = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => open += 1,
            b')' | b']' => open = open.saturating_sub(1),
            b';' if open == 0 => return at,
            b'{' if open == 0 => return closing_brace(code, at),
            _ => {}
        }
    }
    code.len()
}

fn closing_brace(code: &str, from: usize) -> usize {
    let mut open = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'{' => open += 1,
            b'}' if open == 1 => return at,
            b'}' => open -= 1,
            _ => {}
        }
    }
    code.len()
}

/// What the reader is in the middle of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Text,
}

/// Splits a file into code and texts. Comments are in neither.
fn views(text: &str) -> (String, String) {
    let bytes = text.as_bytes();
    let mut code = vec![b' '; bytes.len()];
    let mut strings = code.clone();
    let mut at = 0;
    while at < bytes.len() {
        let (kind, end) = token(bytes, at);
        let end = end.min(bytes.len());
        match kind {
            Kind::Code => code[at..end].copy_from_slice(&bytes[at..end]),
            Kind::Text => strings[at..end].copy_from_slice(&bytes[at..end]),
            Kind::Comment => {}
        }
        at = end;
    }
    for (at, byte) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        code[at] = *byte;
        strings[at] = *byte;
    }
    (lossy(code), lossy(strings))
}

/// Tokens end between characters, so both views are whole.
fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_default()
}

/// The kind of what begins at `at`, and where it ends.
fn token(bytes: &[u8], at: usize) -> (Kind, usize) {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        let end = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .unwrap_or(rest.len());
        return (Kind::Comment, at + end);
    }
    if rest.starts_with(b"/*") {
        return (Kind::Comment, at + block_comment(rest));
    }
    match rest[0] {
        b'"' => (Kind::Text, at + quoted(rest, b'"')),
        b'\'' => match char_literal(rest) {
            Some(length) => (Kind::Text, at + length),
            None => (Kind::Code, at + 1),
        },
        first if first.is_ascii_alphanumeric() || first == b'_' => {
            let word = |byte: &u8| !(byte.is_ascii_alphanumeric() || *byte == b'_');
            let length = rest.iter().position(word).unwrap_or(rest.len());
            match (&rest[..length], raw_text(&rest[length..])) {
                (b"r" | b"br" | b"cr", Some(end)) => (Kind::Text, at + length + end),
                _ => (Kind::Code, at + length),
            }
        }
        // A character of several bytes stays in one piece.
        _ => (
            Kind::Code,
            at + 1
                + rest[1..]
                    .iter()
                    .take_while(|byte| **byte & 0xC0 == 0x80)
                    .count(),
        ),
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length of a quoted text with its quotes; a backslash takes the next byte along.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of a character literal, or nothing when the quote begins a lifetime.
fn char_literal(rest: &[u8]) -> Option<usize> {
    if rest.get(1) == Some(&b'\\') {
        return Some(quoted(rest, b'\''));
    }
    let inside = std::str::from_utf8(&rest[1..rest.len().min(5)]);
    let first = match inside {
        Ok(text) => text.chars().next()?,
        // The window may cut a later character in two.
        Err(error) => std::str::from_utf8(&rest[1..1 + error.valid_up_to()])
            .ok()?
            .chars()
            .next()?,
    };
    let end = 1 + first.len_utf8();
    (rest.get(end) == Some(&b'\'')).then_some(end + 1)
}

/// The length of `#"…"#` with any number of hashes, also none.
fn raw_text(rest: &[u8]) -> Option<usize> {
    let hashes = rest.iter().take_while(|byte| **byte == b'#').count();
    if rest.get(hashes) != Some(&b'"') {
        return None;
    }
    let end = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    let from = hashes + 1;
    let found = rest[from..]
        .windows(end.len())
        .position(|window| window == end);
    Some(found.map_or(rest.len(), |at| from + at + end.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        let source = Source::new("crates/x/src/lib.rs", text);
        assert_eq!(source.code.len(), text.len());
        assert_eq!(source.strings.len(), text.len());
        source.code.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_texts_are_no_code() {
        assert_eq!(code("a // b\nc /* d /* e */ f */ g"), "a c g");
        assert_eq!(code(r##"a "b \" c" d r#"e " f"# g b"h" i"##), "a d g b i");
        assert_eq!(
            code("let c = '\"'; let d = '\\''; let e = 'é'; f"),
            "let c = ; let d = ; let e = ; f"
        );
    }

    #[test]
    fn lifetimes_and_raw_names_stay_code() {
        assert_eq!(
            code("fn f<'a>(x: &'a str) { r#type }"),
            "fn f<'a>(x: &'a str) { r#type }"
        );
        assert_eq!(code("let ü = a · b; // ä"), "let ü = a · b;");
    }

    #[test]
    fn texts_are_kept_for_rules_about_texts() {
        let source = Source::new("crates/x/src/lib.rs", "f(\"SELECT\"); // SELECT\n");
        assert_eq!(source.strings.trim(), "\"SELECT\"");
    }

    #[test]
    fn inline_tests_are_test_code_and_do_not_count_for_the_size() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";
        let source = Source::new("crates/x/src/lib.rs", text);
        let test = |needle: &str| source.is_test(text.find(needle).unwrap());
        assert_eq!(
            (test("fn a"), test("fn b"), test("fn c")),
            (false, true, false)
        );
        assert_eq!(source.lines_that_count(), 2);
    }

    #[test]
    fn a_module_of_tests_in_another_file_ends_at_its_semicolon() {
        let text = "#[cfg(test)]\nmod tests;\nfn c() {}\n";
        let source = Source::new("crates/x/src/lib.rs", text);
        assert!(!source.is_test(text.find("fn c").unwrap()));
    }

    #[test]
    fn files_of_tests_are_test_code() {
        for path in [
            "crates/integration/src/lib.rs",
            "crates/x/src/run/tests.rs",
            "crates/x/tests/it.rs",
        ] {
            assert!(Source::new(path, "fn a() {}").is_test(0), "{path}");
        }
        assert!(!Source::new("crates/x/src/contests.rs", "fn a() {}").is_test(0));
    }

    #[test]
    fn words_are_whole_and_the_owner_is_the_crate() {
        let source = Source::new(
            "crates/store/src/lib.rs",
            "tokio::spawn(x); my_tokio::spawned()",
        );
        assert_eq!(source.words("tokio::spawn").collect::<Vec<_>>(), [0]);
        assert_eq!(source.owner(), "store");
        assert_eq!(Source::new("xtask/src/main.rs", "").owner(), "xtask");
    }
}
