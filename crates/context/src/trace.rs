//! Traces: where in one something happens (W3C trace context), and spans, which tell of something once it has ended.
//!
//! This is the one way by which the server tells an operator's tracing anything. Without a [`Tracer`] a span is
//! nothing, and costs a look at a field.

use std::borrow::Cow;
use std::sync::Arc;

use netra_memory::Scope;
use netra_protocol::Timestamp;

use crate::runtime::Runtime;

/// The most bytes of one text of a span; of content, too.
const MAX_TEXT_BYTES: usize = 16 * 1024;
/// What is told of a span that was dropped before anybody said how it ended.
const CUT_OFF: &str = "cut_off";

/// A span's place: its trace, its own id, and the span that it is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    id: u128,
    span: u64,
    parent: Option<u64>,
    sampled: bool,
}

/// Digits in lower case, all of them, and not only zeros.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let good = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != digits || !text.bytes().all(good) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

impl Trace {
    /// What a `traceparent` names; those of versions to come begin in the same way.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = hex(parts.next()?, 2)?;
        let id = hex(parts.next()?, 32)?;
        let span = hex(parts.next()?, 16)?;
        let flags = hex(parts.next()?, 2)?;
        let is_whole = version > 0 || parts.next().is_none();
        let is_good = version < 0xff && id > 0 && span > 0 && is_whole;
        is_good.then_some(Self {
            id,
            span: u64::try_from(span).ok()?,
            parent: None,
            sampled: flags & 1 == 1,
        })
    }

    /// A place in the same trace, within this one.
    #[must_use]
    pub fn within(self, span: u64) -> Self {
        Self {
            span: span.max(1),
            parent: Some(self.span),
            ..self
        }
    }

    /// The same place as a part of another span.
    #[must_use]
    pub fn with_parent(self, parent: Option<u64>) -> Self {
        Self { parent, ..self }
    }

    /// The trace's id.
    pub fn id(&self) -> u128 {
        self.id
    }

    /// The span's own id.
    pub fn span(&self) -> u64 {
        self.span
    }

    /// The span that it is a part of; none where it is the first of its trace.
    pub fn parent(&self) -> Option<u64> {
        self.parent
    }

    /// Whether anybody wants to be told of it.
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// As `traceparent` says it, for whoever goes on with the trace.
    pub fn header(&self) -> String {
        let flags = u8::from(self.sampled);
        format!("00-{:032x}-{:016x}-{flags:02x}", self.id, self.span)
    }

    /// The id of the span of this number within this one: the same, whoever asks and however often.
    pub fn numbered(&self, number: u32) -> u64 {
        // splitmix64: neighbours get ids that have nothing to do with each other.
        let mut mixed = self
            .span
            .wrapping_add(u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).max(1)
    }
}

impl Runtime {
    /// A place within `parent`, or the first one of a new trace.
    pub fn place_within(&self, parent: Option<Trace>) -> Trace {
        let span = u64::from_be_bytes(self.secret_bytes()).max(1);
        if let Some(parent) = parent {
            return parent.within(span);
        }
        let id = u128::from_be_bytes(self.secret_bytes()).max(1);
        Trace {
            id,
            span,
            parent: None,
            sampled: self.tracer().is_some_and(|tracer| tracer.samples(id)),
        }
    }

    /// Begins a span at this place. It is nothing where nobody wants to be told.
    pub fn span(
        &self,
        place: Option<Trace>,
        kind: SpanKind,
        name: impl FnOnce() -> String,
    ) -> Span {
        let place = place.filter(Trace::is_sampled);
        let (Some(trace), Some(tracer)) = (place, self.tracer()) else {
            return Span(None);
        };
        // What waits to be sent belongs to nobody's account: the run may have ended long ago.
        let _system = Scope::system().enter();
        let told = Told {
            trace,
            kind,
            name: cut(&name()),
            began: self.now(),
            ended: self.now(),
            error: None,
            attributes: Vec::new(),
        };
        Span(Some(Box::new(Open {
            tracer: Arc::clone(tracer),
            runtime: self.clone(),
            told,
        })))
    }
}

/// Who is told of spans.
pub trait Tracer: Send + Sync {
    /// Whether a trace is to be told of that begins here.
    fn samples(&self, trace: u128) -> bool;

    /// Whether spans may tell what users, models and tools say.
    fn wants_content(&self) -> bool;

    /// Takes a span that has ended. It must not block: where there is no room, the span is dropped.
    fn take(&self, span: Told);
}

/// On which side of a connection something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// On none.
    Internal,
    /// Somebody is answered.
    Server,
    /// Somebody is asked.
    Client,
}

/// What a span tells of itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// Words.
    Text(Cow<'a, str>),
    /// A whole number.
    Number(i64),
    /// Any number.
    Fraction(f64),
    /// Yes or no.
    Flag(bool),
    /// A list of one word.
    Word(Cow<'a, str>),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u32> for Value<'_> {
    fn from(number: u32) -> Self {
        Self::Number(i64::from(number))
    }
}

impl From<f64> for Value<'_> {
    fn from(number: f64) -> Self {
        Self::Fraction(number)
    }
}

impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl Value<'_> {
    fn owned(&self) -> Value<'static> {
        match self {
            Self::Text(text) => Value::Text(Cow::Owned(cut(text))),
            Self::Word(word) => Value::Word(Cow::Owned(cut(word))),
            Self::Number(number) => Value::Number(*number),
            Self::Fraction(number) => Value::Fraction(*number),
            Self::Flag(flag) => Value::Flag(*flag),
        }
    }
}

/// As much of a text as a span takes.
fn cut(text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// A span that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Where.
    pub trace: Trace,
    /// On which side.
    pub kind: SpanKind,
    /// What, in a few words of which there are few.
    pub name: String,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Why it failed, in one word; none where it did not.
    pub error: Option<Cow<'static, str>>,
    /// The rest.
    pub attributes: Vec<(&'static str, Value<'static>)>,
}

impl Told {
    /// About how many bytes it holds.
    pub fn bytes(&self) -> usize {
        let of_value = |value: &Value<'_>| match value {
            Value::Text(text) | Value::Word(text) => text.len(),
            Value::Number(_) | Value::Fraction(_) | Value::Flag(_) => 0,
        };
        let each = size_of::<(&'static str, Value<'static>)>();
        let attributes = self.attributes.iter();
        let attributes: usize = attributes.map(|(_, value)| each + of_value(value)).sum();
        size_of::<Self>() + self.name.len() + attributes
    }
}

struct Open {
    tracer: Arc<dyn Tracer>,
    runtime: Runtime,
    told: Told,
}

/// Something that goes on. Whoever holds it says how it ended; dropped without a word it was cut off.
#[must_use]
pub struct Span(Option<Box<Open>>);

impl Span {
    /// Its place, for what happens within it; none where nobody is told.
    pub fn place(&self) -> Option<Trace> {
        self.0.as_ref().map(|open| open.told.trace)
    }

    /// Whether it may tell what users, models and tools say.
    pub fn wants_content(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|open| open.tracer.wants_content())
    }

    /// Tells more of it.
    pub fn set<'v>(&mut self, name: &'static str, value: impl Into<Value<'v>>) {
        if let Some(open) = &mut self.0 {
            let _system = Scope::system().enter();
            open.told.attributes.push((name, value.into().owned()));
        }
    }

    /// The same where there is something to tell.
    pub fn set_if<'v>(&mut self, name: &'static str, value: Option<impl Into<Value<'v>>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// It began earlier.
    pub fn since(&mut self, began: Timestamp) {
        if let Some(open) = &mut self.0 {
            open.told.began = began;
        }
    }

    /// It has ended well.
    pub fn end(mut self) {
        self.tell(None);
    }

    /// It has failed, for this reason in one word.
    pub fn fail(mut self, why: &str) {
        if self.0.is_some() {
            let _system = Scope::system().enter();
            self.tell(Some(Cow::Owned(cut(why))));
        }
    }

    /// It has not ended: somebody else goes on with it.
    pub fn forget(mut self) {
        self.0 = None;
    }

    fn tell(&mut self, error: Option<Cow<'static, str>>) {
        if let Some(open) = self.0.take() {
            let _system = Scope::system().enter();
            let Open {
                tracer,
                runtime,
                mut told,
            } = *open;
            told.ended = runtime.now();
            told.error = error;
            tracer.take(told);
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.tell(Some(Cow::Borrowed(CUT_OFF)));
    }
}

#[cfg(test)]
mod tests;
