//! What one client has taken, in the form in which it is held against the log.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};

use anyhow::{Context as _, Result, ensure};
use netra_protocol::message::Content;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A longer event is kept by its beginning, its length and its hash.
const KEPT_BYTES: usize = 600;

/// Events in the order in which they came: whole ones byte for byte, deltas joined by message.
#[derive(Debug, Default)]
pub(crate) struct List {
    last: u64,
    terminal: bool,
    taken: u64,
    lines: Vec<(u64, Box<str>)>,
    messages: BTreeMap<String, Joined>,
}

/// The deltas of one message.
#[derive(Debug, PartialEq, Eq)]
enum Joined {
    Open(String),
    Whole {
        kept: Box<str>,
        /// Whether the message's text begins with them, which is all that a client can say that
        /// was away while they were folded.
        begins_text: bool,
    },
}

#[derive(Deserialize)]
struct Head<'a> {
    seq: u64,
    #[serde(rename = "type", borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct Delta {
    message_id: String,
    delta: String,
}

#[derive(Deserialize)]
struct Message {
    message_id: String,
    content: Vec<Content>,
}

/// Takes `prev` off a frame: what it is, and the stored event that is left.
pub(crate) fn without_prev(frame: &str) -> Result<(u64, String)> {
    let parts = frame
        .strip_prefix("{\"prev\":")
        .and_then(|rest| rest.split_once(','));
    let (prev, rest) = parts.with_context(|| format!("no `prev` in front: {}", kept(frame)))?;
    Ok((prev.parse()?, format!("{{{rest}")))
}

impl List {
    /// Takes an event as the log holds it.
    pub(crate) fn take(&mut self, stored: &str) -> Result<()> {
        let head: Head<'_> = serde_json::from_str(stored)?;
        let (seq, last) = (head.seq, self.last);
        ensure!(seq > last, "event {seq} came after event {last}");
        self.last = seq;
        self.taken += 1;
        self.terminal = matches!(
            &*head.name,
            "run_completed" | "run_failed" | "run_cancelled" | "run_timed_out"
        );
        match &*head.name {
            "message_delta" => {
                let delta: Delta = serde_json::from_str(head.data.get())?;
                let joined = self.messages.entry(delta.message_id);
                match joined.or_insert_with(|| Joined::Open(String::new())) {
                    Joined::Open(text) => text.push_str(&delta.delta),
                    Joined::Whole { .. } => {
                        anyhow::bail!("event {seq} is a delta of a message that was completed")
                    }
                }
                return Ok(());
            }
            "message_completed" => self.complete(&serde_json::from_str(head.data.get())?),
            _ => {}
        }
        self.lines.push((seq, kept(stored)));
        Ok(())
    }

    fn complete(&mut self, message: &Message) {
        let Some(joined) = self.messages.get_mut(&message.message_id) else {
            return;
        };
        let mut by_file = false;
        let texts = message.content.iter().filter_map(|part| match part {
            Content::Text { text } => Some(text.as_str()),
            Content::File { .. } => {
                by_file = true;
                None
            }
            Content::ToolCall { .. } | Content::ToolResult { .. } => None,
        });
        let text: String = texts.collect();
        if let Joined::Open(deltas) = joined {
            let begins_text = by_file || text.starts_with(deltas.as_str());
            let kept = kept(deltas);
            *joined = Joined::Whole { kept, begins_text };
        }
    }

    /// The number of the last event that was taken; 0 before the first.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// The number of the last event that is no delta.
    pub(crate) fn last_whole(&self) -> u64 {
        self.lines.last().map_or(0, |(seq, _)| *seq)
    }

    /// Whether the last event ends its run.
    pub(crate) fn has_ended(&self) -> bool {
        self.terminal
    }

    /// Events that were taken, deltas too.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// The first place where this client's list is not what the log says.
    pub(crate) fn difference(&self, log: &Self) -> Option<String> {
        let pairs = self.lines.iter().zip(&log.lines);
        for (place, (mine, right)) in pairs.enumerate() {
            if mine != right {
                let (mine, right) = (&mine.1, &right.1);
                return Some(format!(
                    "at {place} it has\n    {mine}\n  the log\n    {right}"
                ));
            }
        }
        let (mine, right) = (self.lines.len(), log.lines.len());
        if mine != right {
            return Some(format!("it has {mine} whole events, the log {right}"));
        }
        self.messages
            .iter()
            .find_map(|(id, mine)| match (mine, log.messages.get(id)) {
                (mine, Some(right)) if mine == right => None,
                (Joined::Whole { begins_text, .. }, None) if *begins_text => None,
                (mine, right) => Some(format!("deltas of {id}: {mine:?}, in the log {right:?}")),
            })
            .or_else(|| {
                let lost = |id: &&String| !self.messages.contains_key(*id);
                let id = log.messages.keys().find(lost)?;
                Some(format!("it has no delta of {id}"))
            })
    }
}

/// A text, or what tells it from every other one.
fn kept(text: &str) -> Box<str> {
    if text.len() <= KEPT_BYTES {
        return text.into();
    }
    let mut hasher = DefaultHasher::new();
    hasher.write(text.as_bytes());
    let (head, bytes) = (&text[..text.floor_char_boundary(KEPT_BYTES)], text.len());
    format!("{head}… ({bytes} bytes, {:016x})", hasher.finish()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(seq: u64, text: &str) -> String {
        format!(
            r#"{{"seq":{seq},"type":"message_delta","data":{{"message_id":"m","delta":"{text}"}}}}"#
        )
    }

    fn completed(seq: u64, text: &str) -> String {
        format!(
            r#"{{"seq":{seq},"type":"message_completed","data":{{"message_id":"m","content":[{{"type":"text","text":"{text}"}}]}}}}"#
        )
    }

    fn ended(seq: u64, words: &str) -> String {
        format!(r#"{{"seq":{seq},"type":"run_completed","data":{{"result":"{words}"}}}}"#)
    }

    fn list(events: &[String]) -> List {
        let mut list = List::default();
        for event in events {
            list.take(event).unwrap();
        }
        list
    }

    fn log() -> List {
        list(&[
            delta(1, "a"),
            delta(2, "b"),
            completed(3, "ab"),
            ended(4, "x"),
        ])
    }

    #[test]
    fn how_the_deltas_were_cut_does_not_matter() {
        let other = list(&[delta(2, "ab"), completed(3, "ab"), ended(4, "x")]);
        assert_eq!(other.difference(&log()), None);
        assert_eq!((other.last(), other.last_whole(), other.taken()), (4, 4, 3));
        assert!(other.has_ended());
    }

    #[test]
    fn anything_lost_or_changed_is_a_difference() {
        for events in [
            vec![delta(1, "a"), completed(3, "ab"), ended(4, "x")],
            vec![completed(3, "ab"), ended(4, "x")],
            vec![delta(1, "ab"), ended(4, "x")],
            vec![delta(1, "ab"), completed(3, "ab")],
            vec![delta(1, "ab"), completed(3, "ab"), ended(4, "y")],
            vec![delta(1, "ab"), completed(3, "ab"), ended(5, "x")],
        ] {
            assert!(list(&events).difference(&log()).is_some(), "{events:?}");
        }
        let long = |end: char| ended(4, &format!("{}{end}", "x".repeat(KEPT_BYTES)));
        assert!(list(&[long('y')]).difference(&list(&[long('z')])).is_some());
    }

    #[test]
    fn a_client_that_was_away_while_deltas_were_folded_has_their_beginning() {
        let folded = list(&[completed(3, "ab"), ended(4, "x")]);
        let part = |text| list(&[delta(1, text), completed(3, "ab"), ended(4, "x")]);
        assert_eq!(part("a").difference(&folded), None);
        assert_eq!(part("ab").difference(&folded), None);
        assert!(part("b").difference(&folded).is_some());
    }

    #[test]
    fn a_repeated_or_late_event_is_refused() {
        let mut list = log();
        assert!(list.take(&ended(4, "x")).is_err());
        assert!(list.take(&ended(2, "x")).is_err());
        assert!(list.take(&delta(9, "c")).is_err(), "after its message");
    }

    #[test]
    fn what_a_subscription_puts_in_front_is_taken_off() {
        let (prev, stored) = without_prev(r#"{"prev":7,"seq":9,"type":"x"}"#).unwrap();
        assert_eq!((prev, stored.as_str()), (7, r#"{"seq":9,"type":"x"}"#));
        assert!(without_prev(r#"{"seq":9}"#).is_err());
    }
}
