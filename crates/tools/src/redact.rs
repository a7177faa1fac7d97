//! The secrets that the tools of a run were given, taken out of whatever these tools give back: results, failures,
//! progress, files. What is stored, told or shown to a model has passed here.

use std::borrow::Cow;

use netra_context::Secret;
use netra_protocol::Failure;
use parking_lot::RwLock;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

/// A text that ends within a secret, because it was cut there, loses what it has of it, from so many bytes on.
const MIN_CUT: usize = 6;

/// A secret as it may be written, to be looked for in time that does not grow with its length: both it and what it is
/// looked for in may be a user's to choose.
#[derive(PartialEq)]
struct Form {
    text: Zeroizing<String>,
    /// For each length of a beginning, the longest shorter beginning that it ends with.
    shorter: Vec<usize>,
}

impl Form {
    fn new(text: String) -> Self {
        let mut form = Self {
            text: Zeroizing::new(text),
            shorter: vec![0; 2],
        };
        for at in 1..form.text.len() {
            let byte = form.text.as_bytes()[at];
            let matched = form.matched(form.shorter[at], byte);
            form.shorter.push(matched);
        }
        form
    }

    /// How much of the form has been read, one byte after so much of it.
    fn matched(&self, mut so_far: usize, byte: u8) -> usize {
        let bytes = self.text.as_bytes();
        while so_far > 0 && bytes.get(so_far) != Some(&byte) {
            so_far = self.shorter[so_far];
        }
        so_far + usize::from(bytes.get(so_far) == Some(&byte))
    }

    /// The content with a sign in place of the form, also where the content ends within it; none where it has none.
    fn taken_out(&self, content: &[u8], sign: &str) -> Option<Vec<u8>> {
        let (mut clean, mut kept, mut so_far) = (Vec::new(), 0, 0);
        for (at, byte) in (1..).zip(content) {
            so_far = self.matched(so_far, *byte);
            if so_far == self.text.len() {
                clean.extend(&content[kept..at - so_far]);
                clean.extend(sign.as_bytes());
                (kept, so_far) = (at, 0);
            }
        }
        if so_far >= MIN_CUT {
            clean.extend(&content[kept..content.len() - so_far]);
            clean.extend(sign.as_bytes());
            kept = content.len();
        }
        (kept > 0).then(|| {
            clean.extend(&content[kept..]);
            clean
        })
    }

    /// Whether the text may have it: a quick look that spares nearly all texts the other.
    fn may_be_in(&self, text: &str) -> bool {
        let tail = text.len().saturating_sub(self.text.len());
        let read = |so_far, byte: &u8| self.matched(so_far, *byte);
        text.contains(self.text.as_str()) || text.as_bytes()[tail..].iter().fold(0, read) >= MIN_CUT
    }
}

/// One secret in each form in which it is looked for.
struct Given {
    name: String,
    forms: Vec<Form>,
}

/// Secrets that were given out, to be taken out of what comes back: those of the tools of one run, or of one instance of
/// a tool server.
#[derive(Default)]
pub struct Redaction(RwLock<Vec<Given>>);

impl Redaction {
    /// From now on this secret is taken out.
    pub fn add(&self, name: &str, secret: &Secret) {
        let forms = forms(secret.expose());
        let mut given = self.0.write();
        if !given
            .iter()
            .any(|one| one.name == name && one.forms == forms)
        {
            given.push(Given {
                name: name.to_owned(),
                forms,
            });
        }
    }

    /// The text without secrets.
    pub fn text(&self, mut text: String) -> String {
        for given in self.0.read().iter() {
            let sign = format!("[secret {}]", given.name);
            for form in &given.forms {
                let found = form.may_be_in(&text);
                if let Some(clean) = found
                    .then(|| form.taken_out(text.as_bytes(), &sign))
                    .flatten()
                {
                    // Forms are whole characters, so what is left is too.
                    text = String::from_utf8_lossy(&clean).into_owned();
                }
            }
        }
        text
    }

    /// The content of a file without secrets.
    pub(crate) fn bytes<'a>(&self, content: &'a [u8]) -> Cow<'a, [u8]> {
        if self.0.read().is_empty() {
            return Cow::Borrowed(content);
        }
        if let Ok(text) = std::str::from_utf8(content) {
            return self.text(text.to_owned()).into_bytes().into();
        }
        let mut content = content.to_vec();
        for given in self.0.read().iter() {
            let sign = format!("[secret {}]", given.name);
            for form in &given.forms {
                content = form.taken_out(&content, &sign).unwrap_or(content);
            }
        }
        content.into()
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
            // A secret of digits alone is none in a number.
            Value::Null | Value::Bool(_) | Value::Number(_) => value,
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

/// As it is, and as it stands in URLs and in common encodings of the whole.
fn forms(secret: &str) -> Vec<Form> {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
    let hex = |upper: bool| {
        let digit = |byte: &u8| match upper {
            true => format!("{byte:02X}"),
            false => format!("{byte:02x}"),
        };
        secret.as_bytes().iter().map(digit).collect::<String>()
    };
    let mut escaped = String::new();
    for byte in secret.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    let mut forms = vec![
        secret.to_owned(),
        escaped,
        STANDARD_NO_PAD.encode(secret),
        URL_SAFE_NO_PAD.encode(secret),
        hex(false),
        hex(true),
    ];
    forms.dedup();
    forms.into_iter().map(Form::new).collect()
}

#[cfg(test)]
mod tests {
    use netra_protocol::ErrorCode;
    use serde_json::json;

    use super::*;

    const CANARY: &str = "s3cr3t/canary+é";

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
            "s3cr3t%2Fcanary%2B%C3%A9",
            "czNjcjN0L2NhbmFyeSvDqQ",
            "7333637233742f63616e6172792bc3a9",
            "7333637233742F63616E6172792BC3A9",
            "s3cr3t/can",
        ] {
            assert_eq!(
                redaction.text(format!("x {text}")),
                "x [secret wiki]",
                "{text}"
            );
        }
        assert_eq!(
            redaction.text("s3cr is no secret".into()),
            "s3cr is no secret"
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
