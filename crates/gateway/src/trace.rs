//! Which trace a request belongs to: W3C trace context, as the client says it, or a new one.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use netra_context::Runtime;

/// Where the trace stands, in requests and in answers.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The trace of a request, and this server's place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trace {
    id: u128,
    span: u64,
    flags: u8,
}

/// Digits in lower case, all of them, and not only zeros.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let good = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != digits || !text.bytes().all(good) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

/// Trace and flags of a `traceparent`; those of versions to come begin in the same way.
fn read(text: &str) -> Option<(u128, u8)> {
    let mut parts = text.split('-');
    let version = hex(parts.next()?, 2)?;
    let id = hex(parts.next()?, 32)?;
    let parent = hex(parts.next()?, 16)?;
    let flags = hex(parts.next()?, 2)?;
    let is_whole = version > 0 || parts.next().is_none();
    let is_good = version < 0xff && id > 0 && parent > 0 && is_whole;
    is_good.then_some((id, u8::try_from(flags & 1).unwrap_or(0)))
}

impl Trace {
    /// The client's, or a new one where it names none that can be read, or more than one.
    pub(crate) fn of(headers: &HeaderMap, runtime: &Runtime) -> Self {
        let mut named = headers.get_all(TRACEPARENT).iter();
        let known = match (named.next(), named.next()) {
            (Some(one), None) => one.to_str().ok().and_then(read),
            _ => None,
        };
        let [mut id, mut span] = [0; 2];
        while id == 0 || span == 0 {
            id = u128::from_be_bytes(runtime.secret_bytes());
            span = u128::from(u64::from_be_bytes(runtime.secret_bytes()));
        }
        let (id, flags) = known.unwrap_or((id, 0));
        Self {
            id,
            span: u64::try_from(span).unwrap_or(1),
            flags,
        }
    }

    /// As headers and logs name the trace.
    pub(crate) fn id(&self) -> String {
        format!("{:032x}", self.id)
    }

    /// For whoever goes on with the trace.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let text = format!("00-{:032x}-{:016x}-{:02x}", self.id, self.span, self.flags);
        HeaderValue::try_from(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn of(lines: &[&str]) -> Trace {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(TRACEPARENT, line.parse().unwrap());
        }
        Trace::of(&headers, &Runtime::new())
    }

    #[test]
    fn a_trace_goes_on_with_a_place_of_its_own() {
        let line = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let trace = of(&[&line]);
        assert_eq!(trace.id(), TRACE);
        let told = trace.header().unwrap().to_str().unwrap().to_owned();
        assert!(
            told.starts_with(&format!("00-{TRACE}-")) && told.ends_with("-01"),
            "{told}"
        );
        assert_ne!(told, line);
        assert_eq!(
            of(&[&format!("cc-{TRACE}-00f067aa0ba902b7-03-more")]).id(),
            TRACE
        );
    }

    #[test]
    fn what_is_no_trace_begins_a_new_one() {
        let good = format!("00-{TRACE}-00f067aa0ba902b7-01");
        for bad in [
            vec![],
            vec!["nonsense"],
            vec!["00-00000000000000000000000000000000-00f067aa0ba902b7-01"],
            vec!["00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"],
            vec!["00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"],
            vec!["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"],
            vec!["ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
            vec![good.as_str(), good.as_str()],
        ] {
            let trace = of(&bad);
            assert_ne!(trace.id(), TRACE, "{bad:?}");
            assert!(trace.header().is_some());
            assert_ne!(trace.id(), of(&bad).id());
        }
    }

    proptest! {
        #[test]
        fn garbage_makes_no_panic(text in "\\PC{0,80}") {
            read(&text);
        }
    }
}
