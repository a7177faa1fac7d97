//! The secrets that the tools of a run were given, taken out of whatever these tools give back: results, failures,
//! progress, files. What is stored, told or shown to a model has passed here.

use netra_context::Secret;
use netra_protocol::Failure;
use parking_lot::RwLock;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

/// A text that ends within a secret, because it was cut there, loses what it has of it, from so many bytes on.
const MIN_CUT: usize = 6;

/// One secret in each form in which it is looked for.
struct Given {
    name: String,
    forms: Vec<Zeroizing<String>>,
}

/// The secrets that were given to the tools of one run.
#[derive(Default)]
pub(crate) struct Redaction(RwLock<Vec<Given>>);

impl Redaction {
    /// From now on this secret is taken out.
    pub(crate) fn add(&self, name: &str, secret: &Secret) {
        let mut given = self.0.write();
        let forms = forms(secret.expose());
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
    pub(crate) fn text(&self, mut text: String) -> String {
        for given in self.0.read().iter() {
            let sign = format!("[secret {}]", given.name);
            for form in &given.forms {
                if text.contains(form.as_str()) {
                    text = text.replace(form.as_str(), &sign);
                }
                if let Some(kept) = cut_off(text.as_bytes(), form.as_bytes()) {
                    text.truncate(kept);
                    text.push_str(&sign);
                }
            }
        }
        text
    }

    /// The content of a file without secrets.
    pub(crate) fn bytes(&self, content: &[u8]) -> Vec<u8> {
        let mut content = content.to_vec();
        for given in self.0.read().iter() {
            let sign = format!("[secret {}]", given.name).into_bytes();
            for form in &given.forms {
                content = replaced(content, form.as_bytes(), &sign);
                if let Some(kept) = cut_off(&content, form.as_bytes()) {
                    content.truncate(kept);
                    content.extend(&sign);
                }
            }
        }
        content
    }

    /// The value without secrets, in names of fields too.
    pub(crate) fn value(&self, value: Value) -> Value {
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
fn forms(secret: &str) -> Vec<Zeroizing<String>> {
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
    forms.into_iter().map(Zeroizing::new).collect()
}

/// How much of a text is left where its end is a beginning of the secret.
fn cut_off(text: &[u8], form: &[u8]) -> Option<usize> {
    let longest = form.len().saturating_sub(1).min(text.len());
    let of_form = |length: &usize| text.ends_with(&form[..*length]);
    (MIN_CUT..=longest)
        .rev()
        .find(of_form)
        .map(|length| text.len() - length)
}

fn replaced(content: Vec<u8>, form: &[u8], sign: &[u8]) -> Vec<u8> {
    let has_it = |rest: &[u8]| rest.windows(form.len()).position(|part| part == form);
    let Some(mut at) = has_it(&content) else {
        return content;
    };
    let (mut clean, mut rest) = (Vec::with_capacity(content.len()), &content[..]);
    loop {
        clean.extend(&rest[..at]);
        clean.extend(sign);
        rest = &rest[at + form.len()..];
        match has_it(rest) {
            Some(next) => at = next,
            None => break,
        }
    }
    clean.extend(rest);
    clean
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
            redaction.bytes(&file),
            b"\xff[secret wiki]\x00[secret wiki]"
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
        assert_eq!(Redaction::default().bytes(b"abc"), b"abc");
    }
}
