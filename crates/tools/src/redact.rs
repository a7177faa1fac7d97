//! The secrets that the tools of a run were given, taken out of whatever these tools give back: results, failures,
//! progress, files. What is stored, told or shown to a model has passed here.

mod escapes;
mod form;

use std::borrow::Cow;
use std::ops::Range;

use base64::Engine;
use netra_context::Secret;
use netra_protocol::Failure;
use parking_lot::RwLock;
use serde_json::{Map, Number, Value};
use zeroize::Zeroizing;

use form::{Form, MIN_CUT};

/// So many layers of escapes are seen through: JSON in JSON in a URL, and one more.
const MAX_LAYERS: usize = 4;

/// One secret in each form in which it is looked for.
struct Given {
    name: String,
    value: Secret,
    forms: Vec<Form>,
    /// What it is as a number, which may be written otherwise.
    number: Option<f64>,
}

impl Given {
    fn sign(&self) -> String {
        format!("[secret {}]", self.name)
    }
}

/// Secrets that were given out, to be taken out of what comes back: those of the tools of one run, or of one instance of
/// a tool server.
#[derive(Default)]
pub struct Redaction(RwLock<Vec<Given>>);

impl Redaction {
    /// From now on this secret is taken out.
    pub fn add(&self, name: &str, secret: &Secret) {
        let is_it = |one: &Given| one.name == name && one.value.expose() == secret.expose();
        if self.0.read().iter().any(is_it) {
            return;
        }
        let number = secret.expose().parse().ok();
        self.0.write().push(Given {
            name: name.to_owned(),
            value: secret.clone(),
            forms: forms(secret.expose()),
            number: number.filter(|number: &f64| number.is_finite()),
        });
    }

    /// The text without secrets.
    pub fn text(&self, text: String) -> String {
        match self.taken_out(text.as_bytes()) {
            // Forms are whole characters, so what is left is too.
            Some(clean) => String::from_utf8_lossy(&clean).into_owned(),
            None => text,
        }
    }

    /// The content of a file without secrets.
    pub(crate) fn bytes<'a>(&self, content: &'a [u8]) -> Cow<'a, [u8]> {
        let clean = self.taken_out(content);
        clean.map_or(Cow::Borrowed(content), Cow::Owned)
    }

    /// The content with signs in place of secrets; none where it has none.
    fn taken_out(&self, content: &[u8]) -> Option<Vec<u8>> {
        let all = self.0.read();
        let places = places(&all, content);
        if places.is_empty() {
            return None;
        }
        let (mut clean, mut kept) = (Vec::new(), 0);
        for (place, given) in places {
            // Two that overlap are one.
            if place.start >= kept {
                clean.extend(&content[kept..place.start]);
                clean.extend(given.sign().into_bytes());
            }
            kept = kept.max(place.end);
        }
        clean.extend(&content[kept..]);
        Some(clean)
    }

    /// The number, or words where it is a secret or has one in its digits.
    fn number(&self, number: Number) -> Value {
        let all = self.0.read();
        let mut numbers = all.iter().filter(|given| given.number.is_some()).peekable();
        if numbers.peek().is_none() {
            return number.into();
        }
        let same = numbers.find(|given| given.number == number.as_f64());
        if let Some(given) = same {
            return given.sign().into();
        }
        let digits = number.to_string();
        let has_none = places(&all, digits.as_bytes()).is_empty();
        drop(all);
        match has_none {
            true => number.into(),
            false => self.text(digits).into(),
        }
    }

    /// The value without secrets, in names of fields too.
    pub fn value(&self, value: Value) -> Value {
        if self.0.read().is_empty() {
            return value;
        }
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => items.into_iter().map(|item| self.value(item)).collect(),
            Value::Object(fields) => {
                let clean = |(name, value)| (self.text(name), self.value(value));
                Value::Object(fields.into_iter().map(clean).collect::<Map<_, _>>())
            }
            Value::Number(number) => self.number(number),
            Value::Null | Value::Bool(_) => value,
        }
    }

    /// The failure without secrets.
    pub(crate) fn failure(&self, failure: Failure) -> Failure {
        Failure {
            code: failure.code,
            message: self.text(failure.message),
            details: failure.details.map(|details| self.value(details)),
        }
    }
}

/// Where a text has secrets, however they are escaped in it, from the first on.
fn places<'g>(all: &'g [Given], content: &[u8]) -> Vec<(Range<usize>, &'g Given)> {
    let mut places = Vec::new();
    if all.is_empty() {
        return places;
    }
    let mut view = Cow::Borrowed(content);
    for layers in 0..=MAX_LAYERS {
        let found = places_in_lines(all, &view);
        if layers == 0 {
            places = found;
        } else if !found.is_empty() {
            let origins = escapes::origins(content, layers);
            let of_content =
                |(at, given): (Range<usize>, _)| (origins[at.start]..origins[at.end], given);
            places.extend(found.into_iter().map(of_content));
        }
        match escapes::unescaped(&view) {
            Some(bare) => view = Cow::Owned(bare),
            None => break,
        }
    }
    places.sort_by_key(|(place, _)| (place.start, std::cmp::Reverse(place.end)));
    places
}

/// The same of the text as it stands, also where it was broken into lines, as base64 often is.
fn places_in_lines<'g>(all: &'g [Given], text: &[u8]) -> Vec<(Range<usize>, &'g Given)> {
    let is_break = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let find = |text: &[u8]| {
        let forms = all
            .iter()
            .flat_map(|given| given.forms.iter().map(move |form| (form, given)));
        let places =
            |(form, given): (&Form, _)| form.places(text).into_iter().map(move |at| (at, given));
        forms.flat_map(places).collect::<Vec<_>>()
    };
    let mut found = find(text);
    if text.iter().any(is_break) {
        let joined: Vec<u8> = text
            .iter()
            .copied()
            .filter(|byte| !is_break(byte))
            .collect();
        let broken = find(&joined);
        if !broken.is_empty() {
            let bytes = text.iter().enumerate().filter(|(_, byte)| !is_break(byte));
            let begins: Vec<usize> = bytes.map(|(at, _)| at).collect();
            let of_text =
                |(at, given): (Range<usize>, _)| (begins[at.start]..begins[at.end - 1] + 1, given);
            found.extend(broken.into_iter().map(of_text));
        }
    }
    found
}

/// As it is and as it reads without escapes, and in common encodings.
fn forms(secret: &str) -> Vec<Form> {
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
    let hex = |upper: bool| {
        let digit = |byte: &u8| match upper {
            true => format!("{byte:02X}"),
            false => format!("{byte:02x}"),
        };
        secret.as_bytes().iter().map(digit).collect::<String>()
    };
    let mut forms = vec![secret.as_bytes().to_vec()];
    forms.extend(in_base64(&STANDARD_NO_PAD, secret));
    let with_escapes = forms.len();
    forms.extend(in_base64(&URL_SAFE_NO_PAD, secret));
    forms.extend([false, true].map(|upper| hex(upper).into_bytes()));
    // What is looked through for it loses whatever looks like an escape, so the secrets (and base64's plus) do too.
    for plain in 0..with_escapes {
        let mut bare = escapes::unescaped(&forms[plain]);
        while let Some(less) = bare.filter(|less| less.len() > MIN_CUT) {
            bare = escapes::unescaped(&less);
            forms.push(less);
        }
    }
    forms.sort();
    forms.dedup();
    forms.retain(|form| !form.is_empty());
    forms.into_iter().map(Form::new).collect()
}

/// The secret in base64: by itself, and in a longer text that was encoded as a whole, after any number of bytes. There the
/// digits at its edges are its neighbours' too, and are left out.
fn in_base64(alphabet: &impl Engine, secret: &str) -> impl Iterator<Item = Vec<u8>> {
    let within = |before: usize| {
        let text = Zeroizing::new([&[0; 2][..before], secret.as_bytes()].concat());
        let mut digits = alphabet.encode(&*text).into_bytes();
        // A digit says 6 bits.
        digits.truncate(text.len() * 8 / 6);
        digits.drain(..digits.len().min((before * 8).div_ceil(6)));
        digits
    };
    let inner = [0, 1, 2].map(within).into_iter();
    let whole = alphabet.encode(secret).into_bytes();
    // Less would be found by chance.
    std::iter::once(whole).chain(inner.filter(|digits| digits.len() > MIN_CUT))
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
    use netra_protocol::ErrorCode;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// With all that somebody or other escapes.
    const CANARY: &str = "s3\"cr\\t/can&ary+é x";

    fn redaction() -> Redaction {
        let redaction = Redaction::default();
        redaction.add("wiki", &Secret::new(CANARY));
        redaction
    }

    #[test]
    fn a_secret_is_taken_out_wherever_it_stands() {
        let redaction = redaction();
        let value = redaction.value(json!({
            "a": [format!("Bearer {CANARY}!"), 7, null],
            format!("of {CANARY}"): {"deep": CANARY},
        }));
        let clean = json!({
            "a": ["Bearer [secret wiki]!", 7, null],
            "of [secret wiki]": {"deep": "[secret wiki]"},
        });
        assert_eq!(value, clean);
        let failure = Failure::new(ErrorCode::ToolFailed, format!("no {CANARY}"))
            .with_details(json!({"was": CANARY}));
        let clean = Failure::new(ErrorCode::ToolFailed, "no [secret wiki]")
            .with_details(json!({"was": "[secret wiki]"}));
        assert_eq!(redaction.failure(failure), clean);
        let file = [
            b"\xff".as_slice(),
            CANARY.as_bytes(),
            b"\x00",
            CANARY.as_bytes(),
        ]
        .concat();
        assert_eq!(
            *redaction.bytes(&file),
            *b"\xff[secret wiki]\x00[secret wiki]"
        );
    }

    #[test]
    fn it_is_taken_out_in_common_encodings_and_where_the_text_was_cut() {
        let redaction = redaction();
        for text in [
            "czMiY3JcdC9jYW4mYXJ5K8OpIHg",
            "czMiY3JcdC9jYW4mYXJ5K8OpIHg=",
            "73332263725c742f63616e266172792bc3a92078",
            "73332263725C742F63616E266172792BC3A92078",
            "s3\"cr\\t/can",
        ] {
            let clean = redaction.text(format!("x {text}"));
            assert!(clean.starts_with("x [secret wiki]"), "{text}: {clean}");
            assert!(clean.len() <= "x [secret wiki]=".len(), "{text}: {clean}");
        }
        assert_eq!(redaction.text("s3\"cr is none".into()), "s3\"cr is none");
    }

    #[test]
    fn a_secret_in_the_middle_of_what_was_encoded_is_taken_out() {
        let redaction = Redaction::default();
        redaction.add("key", &Secret::new("hunter2!"));
        for (said, clean) in [
            // After user:, me: and bob:, and before two points.
            ("Basic dXNlcjpodW50ZXIyIQ==", "Basic dXNlcjp[secret key]Q=="),
            ("Basic bWU6aHVudGVyMiE=", "Basic bWU6[secret key]="),
            ("Basic Ym9iOmh1bnRlcjIh", "Basic Ym9iOm[secret key]"),
            (
                r#"{"a": "bWU6aHVu\ndGVyMiEuLg=="}"#,
                r#"{"a": "bWU6[secret key]uLg=="}"#,
            ),
        ] {
            assert_eq!(redaction.text(said.into()), clean);
        }
    }

    proptest! {
        /// Of a text in base64, in lines or not, what is before and after the secret stays, and of the secret's digits at
        /// most the one at each edge that its neighbour shares.
        #[test]
        fn whatever_stands_before_and_after_a_secret_base64_does_not_hide_it(
            before in prop::collection::vec(any::<u8>(), 0..40),
            secret in "[!-~]{8}[ -~é€]{0,40}",
            after in prop::collection::vec(any::<u8>(), 0..40),
            alphabet in 0..4_usize,
            line in prop::option::of(1..80_usize),
            line_end in prop::sample::select(vec!["\n", "\r\n"]),
        ) {
            let text = [&before[..], secret.as_bytes(), &after].concat();
            let encoded = match alphabet {
                0 => STANDARD.encode(text),
                1 => STANDARD_NO_PAD.encode(text),
                2 => URL_SAFE.encode(text),
                _ => URL_SAFE_NO_PAD.encode(text),
            };
            let said = match line {
                None => encoded.clone(),
                Some(length) => {
                    let lines = encoded.as_bytes().chunks(length);
                    let lines: Vec<_> = lines.map(String::from_utf8_lossy).collect();
                    lines.join(line_end)
                }
            };
            let redaction = Redaction::default();
            redaction.add("x", &Secret::new(secret.as_str()));
            let clean = redaction.text(said).replace(['\r', '\n'], "");
            let begins = (before.len() * 8).div_ceil(6);
            let ends = (before.len() + secret.len()) * 8 / 6;
            let rest = encoded.get(ends + 1..).unwrap_or_default();
            let found = clean.strip_prefix(&encoded[..begins]).and_then(|rest| rest.strip_prefix("[secret x]"));
            let left = found.and_then(|found| found.strip_suffix(rest));
            prop_assert!(left.is_some_and(|left| left.len() <= 1), "{encoded} became {clean}");
        }
    }

    #[test]
    fn a_secret_that_comes_back_escaped_is_taken_out() {
        let redaction = redaction();
        let json = json!(CANARY).to_string();
        let json = &json[1..json.len() - 1];
        let twice = json!(json).to_string();
        for text in [
            json,
            &twice[1..twice.len() - 1],
            "s3\\\"cr\\\\t\\/can\\u0026ary\\u002b\\u00e9 x",
            "s3\\u0022cr\\u005Ct\\u002Fcan\\u0026ary\\u002B\\u00E9\\u0020x",
            "s3%22cr%5Ct%2Fcan%26ary%2B%C3%A9%20x",
            "s3%22cr%5ct%2fcan%26ary%2b%c3%a9+x",
            "s3%2522cr%255Ct%252Fcan%2526ary%252B%25C3%25A9%2520x",
            "s3&quot;cr\\t/can&amp;ary+é x",
            "s3&#34;cr&#92;t&#x2F;can&#38;ary&#43;&eacute;&#32;x",
            // Mixed: HTML in JSON, a URL in JSON.
            "s3&quot;cr\\\\t\\/can&amp;ary+\\u00e9 x",
            "s3%22cr%5Ct\\/can%26ary%2B%C3%A9+x",
            // Cut within an escape.
            "s3\\\"cr\\\\t\\/can\\u00",
            "s3%22cr%5Ct%2",
        ] {
            let clean = redaction.text(format!("{{{text}"));
            assert_eq!(clean, "{[secret wiki]", "{text}");
            let clean = redaction.value(json!({ text: [text] }));
            assert_eq!(clean, json!({"[secret wiki]": ["[secret wiki]"]}), "{text}");
        }
        let around = redaction.text(format!("a%20b {json} c&amp;d \\\" {json}."));
        assert_eq!(around, "a%20b [secret wiki] c&amp;d \\\" [secret wiki].");
    }

    #[test]
    fn a_secret_that_itself_looks_escaped_is_taken_out() {
        for secret in [
            "a%41%2542&amp;c",
            r"back\slash\nand\u0041",
            "plus+plus+plus",
            r"\\\\\\\\\\",
        ] {
            let redaction = Redaction::default();
            redaction.add("odd", &Secret::new(secret));
            let json = json!(secret).to_string();
            let url: String = secret.bytes().map(|byte| format!("%{byte:02x}")).collect();
            for text in [secret, &json[1..json.len() - 1], &url] {
                let clean = redaction.text(format!("<{text}>"));
                assert_eq!(clean, "<[secret odd]>", "{secret} as {text}");
            }
        }
    }

    #[test]
    fn a_secret_of_digits_that_comes_back_as_a_number_is_taken_out() {
        let redaction = Redaction::default();
        redaction.add("pin", &Secret::new("8675309112"));
        redaction.add("long", &Secret::new("123456789012345678901234"));
        let read: Value =
            serde_json::from_str("[8675309112, 8675309112.0, 123456789012345678901234, 7, 1.5]")
                .unwrap();
        let clean = json!(["[secret pin]", "[secret pin]", "[secret long]", 7, 1.5]);
        assert_eq!(redaction.value(read), clean);
        assert_eq!(
            redaction.value(json!(18_675_309_112_u64)),
            json!("1[secret pin]")
        );
    }

    #[test]
    fn without_secrets_nothing_changes() {
        let value = json!({"a": [CANARY]});
        assert_eq!(Redaction::default().value(value.clone()), value);
        assert_eq!(*Redaction::default().bytes(b"abc"), *b"abc");
    }

    #[test]
    fn secrets_that_overlap_themselves_are_taken_out_whole_and_in_time() {
        let redaction = Redaction::default();
        redaction.add("a", &Secret::new("aabaabaaa"));
        for (text, clean) in [
            ("aabaabaabaaa", "aab[secret a]"),
            ("aabaabaaaaabaabaaa", "[secret a][secret a]"),
            ("aabaabaab", "aab[secret a]"),
            ("aabaac", "aabaac"),
        ] {
            assert_eq!(redaction.text(text.into()), clean, "{text}");
            let bytes = [b"\xff", text.as_bytes()].concat();
            assert_eq!(redaction.bytes(&bytes)[1..], *clean.as_bytes(), "{text}");
        }
        // A search that began anew at each byte would take hours for this.
        redaction.add("long", &Secret::new(format!("{}b", "a".repeat(16_000))));
        let nearly = "a".repeat(400_000);
        assert!(redaction.text(nearly).ends_with("[secret long]"));
    }
}
