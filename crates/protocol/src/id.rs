//! Typed, prefixed, time-ordered ids, such as `run_01jd9m3v6c0000000000000000`.
//!
//! An id is 128 bits: 48 bits of milliseconds since 1970 and 80 random bits, written as 26 digits
//! of Crockford's base 32 in lower case. Ids sort by the time of their making.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const TEXT_LEN: usize = 26;

/// The text is not an id of the wanted kind. Says nothing of the text, which may be another user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {noun} id ({rule})")]
pub struct InvalidId {
    noun: &'static str,
    /// As errors of the contract name what is broken.
    pub rule: &'static str,
}

fn encode(bits: u128) -> [u8; TEXT_LEN] {
    let mut text = [b'0'; TEXT_LEN];
    let mut rest = bits;
    for digit in text.iter_mut().rev() {
        *digit = DIGITS[(rest & 31) as usize];
        rest >>= 5;
    }
    text
}

fn decode(text: &str) -> Option<u128> {
    if text.len() != TEXT_LEN {
        return None;
    }
    let mut bits: u128 = 0;
    for (place, byte) in text.bytes().enumerate() {
        let digit = DIGITS.iter().position(|&d| d == byte)? as u128;
        // The first digit holds the top three bits only.
        if place == 0 && digit > 7 {
            return None;
        }
        bits = (bits << 5) | digit;
    }
    Some(bits)
}

/// Puts the parts of a new id together; `random` is cut to 80 bits.
fn assemble(unix_ms: u64, random: u128) -> u128 {
    (u128::from(unix_ms) << 80) | (random & ((1 << 80) - 1))
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal, $noun:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// What stands in front of the digits.
            pub const PREFIX: &'static str = $prefix;
            /// What every such id fits, as its schema has it.
            pub const RULE: &'static str = concat!("pattern ^", $prefix, "[0-7][0-9a-hjkmnp-tv-z]{25}$");

            /// A new id from the time in milliseconds since 1970 and 80 random bits.
            pub fn from_parts(unix_ms: u64, random: u128) -> Self {
                Self(assemble(unix_ms, random))
            }

            /// The 16 bytes, most significant first: sorts as the id does.
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }

            /// The id of these 16 bytes.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(u128::from_be_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                let digits = encode(self.0);
                f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let bits = text.strip_prefix($prefix).and_then(decode);
                bits.map(Self).ok_or(InvalidId { noun: $noun, rule: Self::RULE })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .pattern(Some(concat!("^", $prefix, "[0-7][0-9a-hjkmnp-tv-z]{25}$")))
                    .examples([serde_json::json!(concat!($prefix, "01jd9m3v6c8x0q2r4t6v8w0y2z"))])
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {
            fn name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
        }
    )*};
}

ids! {
    /// A person or a back end's end user.
    UserId = "usr_", "user";
    /// One sign-in: the family of its refresh tokens.
    SessionId = "ses_", "session";
    /// An API key (not its secret).
    KeyId = "key_", "key";
    /// An invitation (not its token).
    InviteId = "inv_", "invitation";
    /// A conversation.
    ThreadId = "thr_", "thread";
    /// One message of a thread.
    MessageId = "msg_", "message";
    /// One run of an agent.
    RunId = "run_", "run";
    /// One call of a tool within a run.
    ToolCallId = "tcl_", "tool call";
    /// One event; never changes.
    EventId = "evt_", "event";
    /// A file: uploaded, or made by a run.
    FileId = "fil_", "file";
    /// A question to a person.
    ApprovalId = "apr_", "approval";
    /// One HTTP request or WebSocket frame, as answered in errors.
    RequestId = "req_", "request";
    /// One open WebSocket.
    ConnectionId = "con_", "connection";
    /// One record of the audit.
    AuditId = "aud_", "audit record";
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_and_bytes_round_trip() {
        let id = RunId::from_parts(1_763_866_800_000, 0x1234_5678_9abc_def0_1234);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(RunId::from_bytes(id.to_bytes()), id);
        assert_eq!(id.to_string().len(), 4 + TEXT_LEN);
    }

    #[test]
    fn later_ids_sort_after_earlier_ones_as_text_too() {
        let early = RunId::from_parts(1, u128::MAX);
        let late = RunId::from_parts(2, 0);
        assert!(early < late);
        assert!(early.to_string() < late.to_string());
    }

    #[test]
    fn anything_else_is_refused() {
        let good = RunId::from_parts(7, 7).to_string();
        let wrong_prefix = good.replace("run_", "thr_");
        for bad in [
            "",
            "run_",
            "run_1",
            &wrong_prefix,
            &good.to_uppercase(),
            &format!("{good}0"),
        ] {
            assert_eq!(bad.parse::<RunId>().unwrap_err().noun, "run", "{bad}");
        }
        assert!(format!("run_8{}", "0".repeat(25)).parse::<RunId>().is_err());
    }

    proptest! {
        #[test]
        fn every_id_reads_back_and_no_text_panics(ms in 0..1_u64 << 48, random in any::<u128>(), text in ".{0,40}") {
            let id = ThreadId::from_parts(ms, random);
            prop_assert_eq!(id.to_string().parse::<ThreadId>().unwrap(), id);
            if let Ok(id) = text.parse::<ThreadId>() {
                prop_assert_eq!(&id.to_string(), &text);
            }
            format!("thr_{text}").parse::<ThreadId>().ok();
        }
    }
}
