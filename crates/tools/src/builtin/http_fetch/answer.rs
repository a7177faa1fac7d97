//! The body of an answer: read up to a limit, then text or JSON, or nothing at all.

use netra_protocol::Failure;
use reqwest::Response;
use reqwest::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, LAST_MODIFIED,
};
use serde_json::{Map, Value, json};

use super::{Reason, failed};

/// The headers that an agent is told of.
const TOLD: [HeaderName; 4] = [CONTENT_TYPE, CONTENT_LENGTH, LAST_MODIFIED, ETAG];

/// What was read of a body.
pub(super) struct Body {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Body {
    /// Reads up to `most` bytes and then no further.
    pub(super) async fn read(mut response: Response, most: usize) -> Result<Self, Failure> {
        let mut bytes = Vec::new();
        let broken = |_| failed(Reason::Unreachable, "the answer broke off");
        while let Some(piece) = response.chunk().await.map_err(broken)? {
            let room = most - bytes.len();
            bytes.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.len() > room {
                return Ok(Self {
                    bytes,
                    is_cut: true,
                });
            }
        }
        Ok(Self {
            bytes,
            is_cut: false,
        })
    }

    /// The fields of the result that tell of it.
    pub(super) fn told(self, headers: &HeaderMap) -> Result<Map<String, Value>, Failure> {
        let kind = Kind::of(headers)?;
        let mut fields = Map::new();
        fields.insert("bytes".into(), json!(self.bytes.len()));
        fields.insert("truncated".into(), json!(self.is_cut));
        // What does not parse is given as the text that it is.
        let parsed = (kind.is_json && !self.is_cut)
            .then(|| serde_json::from_slice::<Value>(&self.bytes).ok())
            .flatten();
        match parsed {
            Some(value) => fields.insert("json".into(), value),
            None => {
                let text = kind.text(self.bytes, self.is_cut)?;
                fields.insert("text".into(), Value::String(text))
            }
        };
        Ok(fields)
    }
}

/// The few headers that are told.
pub(super) fn headers(all: &HeaderMap) -> Value {
    let told = TOLD.iter().filter_map(|name| {
        let value = all.get(name)?.to_str().ok()?;
        Some((name.as_str().replace('-', "_"), json!(value)))
    });
    Value::Object(told.collect())
}

/// What the headers say of a body.
struct Kind {
    media_type: String,
    charset: Option<String>,
    is_json: bool,
}

impl Kind {
    fn of(headers: &HeaderMap) -> Result<Self, Failure> {
        let header = |name| {
            let value = headers.get(name)?.to_str().ok()?;
            Some(value.trim().to_ascii_lowercase())
        };
        if let Some(encoding) = header(CONTENT_ENCODING).filter(|name| name != "identity") {
            let words = format!("the answer is encoded with {encoding:?}, which was not asked for");
            return Err(failed(Reason::NotText, words));
        }
        let declared = header(CONTENT_TYPE).unwrap_or_default();
        let mut parts = declared.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_owned();
        let charset = parts.find_map(|part| part.strip_prefix("charset="));
        Ok(Self {
            charset: charset.map(|name| name.trim_matches('"').to_owned()),
            is_json: media_type == "application/json" || media_type.ends_with("+json"),
            media_type,
        })
    }

    /// The body as text. What is text, the bytes say: a declared type is often wrong.
    fn text(&self, mut bytes: Vec<u8>, is_cut: bool) -> Result<String, Failure> {
        if matches!(self.charset.as_deref(), Some("iso-8859-1" | "latin1")) {
            let text = bytes.into_iter().map(char::from).collect();
            return self.readable(text);
        }
        if is_cut
            && let Err(error) = std::str::from_utf8(&bytes)
            && error.error_len().is_none()
        {
            // The limit fell into a character.
            bytes.truncate(error.valid_up_to());
        }
        let text = String::from_utf8(bytes).map_err(|_| self.not_text())?;
        self.readable(match text.strip_prefix('\u{feff}') {
            Some(rest) => rest.to_owned(),
            None => text,
        })
    }

    fn readable(&self, text: String) -> Result<String, Failure> {
        if text.contains('\0') {
            Err(self.not_text())
        } else {
            Ok(text)
        }
    }

    fn not_text(&self) -> Failure {
        let kind = match self.media_type.as_str() {
            "" => "of no named type",
            named => named,
        };
        let charset = match &self.charset {
            None => String::new(),
            Some(name) => format!(" in {name}"),
        };
        let words =
            format!("the answer is {kind}{charset}; only text in UTF-8 or ISO-8859-1 is read");
        failed(Reason::NotText, words)
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn told(content_type: &'static str, bytes: &[u8], is_cut: bool) -> Result<Value, String> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        let body = Body {
            bytes: bytes.to_vec(),
            is_cut,
        };
        let fields = body.told(&headers).map_err(|failure| failure.message)?;
        Ok(Value::Object(fields))
    }

    #[test]
    fn json_is_json_unless_it_is_cut_or_broken() {
        let json = told("application/json; charset=utf-8", b"{\"a\": [1]}", false).unwrap();
        assert_eq!(
            json,
            json!({"bytes": 10, "truncated": false, "json": {"a": [1]}})
        );
        let problem = told("application/problem+json", b"{}", false).unwrap();
        assert_eq!(problem["json"], json!({}));
        let cut = told("application/json", b"{\"a\": [1]}", true).unwrap();
        assert_eq!(
            (&cut["text"], &cut["truncated"]),
            (&json!("{\"a\": [1]}"), &json!(true))
        );
        let broken = told("application/json", b"{", false).unwrap();
        assert_eq!(broken["text"], "{");
        // Deeper than the parser goes: text, not a stack that overflows.
        let deep = "[".repeat(100_000);
        assert_eq!(
            told("application/json", deep.as_bytes(), false).unwrap()["text"],
            deep
        );
    }

    #[test]
    fn text_is_what_the_bytes_are() {
        let text =
            |kind, bytes: &[u8], cut| told(kind, bytes, cut).map(|told| told["text"].clone());
        assert_eq!(
            text("text/html", "<p>é".as_bytes(), false),
            Ok(json!("<p>é"))
        );
        assert_eq!(text("", b"\xef\xbb\xbfplain", false), Ok(json!("plain")));
        assert_eq!(text("image/svg+xml", b"<svg/>", false), Ok(json!("<svg/>")));
        // The limit may fall into a character; a wrong byte elsewhere is no text.
        assert_eq!(text("text/plain", b"a\xc3", true), Ok(json!("a")));
        assert!(text("text/plain", b"a\xc3", false).is_err());
        assert_eq!(
            text("text/plain; charset=\"ISO-8859-1\"", b"caf\xe9", false),
            Ok(json!("café"))
        );
    }

    #[test]
    fn binary_is_refused_by_name() {
        let png = told("image/png", b"\x89PNG\r\n\x1a\n\0", false).unwrap_err();
        assert!(png.contains("image/png"), "{png}");
        let latin = told("text/plain; charset=iso-8859-1", b"a\0b", false).unwrap_err();
        assert!(latin.contains("iso-8859-1"), "{latin}");
        let other = told("text/html; charset=shift_jis", b"\x83\x65", false).unwrap_err();
        assert!(other.contains("shift_jis"), "{other}");
    }
}
