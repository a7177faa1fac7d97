//! Ways to part the requests of a log: by model, user, length and hour. What a part has to do with cost or time is asked
//! of every dimension in the same way.

use serde_json::{Map, Value, json};

use crate::log::Log;
use crate::output::thousands;
use crate::times::{Base, HOUR};

/// The lower ends of the classes of length, in tokens. The last class has no upper end.
const EDGES: [u32; 8] = [0, 256, 1_024, 4_096, 16_384, 65_536, 131_072, 262_144];
const HOURS: i64 = 24;

/// One way to part the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dimension {
    Model,
    User,
    PromptLength,
    OutputLength,
    Hour,
}

impl Dimension {
    pub(crate) const ALL: [Self; 5] = [
        Self::Model,
        Self::User,
        Self::PromptLength,
        Self::OutputLength,
        Self::Hour,
    ];

    /// The field of results that has its parts.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Model => "by_model",
            Self::User => "by_user",
            Self::PromptLength => "by_prompt_length",
            Self::OutputLength => "by_output_length",
            Self::Hour => "by_hour",
        }
    }

    /// Whether the log tells the part of a request. The length of a request is not known where rows are sums, nor is the
    /// hour of the day where a row may be a whole day.
    pub(crate) fn known(self, log: &Log) -> bool {
        let single = !log.is_aggregated();
        match self {
            Self::Model => log.model.present() > 0,
            Self::User => log.user.present() > 0,
            Self::PromptLength => single && log.input.present() > 0,
            Self::OutputLength => single && log.output.present() > 0,
            Self::Hour => single && log.base == Some(Base::Utc),
        }
    }

    /// The part that a row belongs to.
    pub(crate) fn part(self, log: &Log, row: usize) -> Option<usize> {
        let class = |tokens: u32| EDGES.partition_point(|edge| *edge <= tokens) - 1;
        match self {
            Self::Model => log.model.get(row).map(|n| n as usize),
            Self::User => log.user.get(row).map(|n| n as usize),
            Self::PromptLength => log.input.get(row).map(class),
            Self::OutputLength => log.output.get(row).map(class),
            Self::Hour => {
                let hour = log.time.get(row)?.div_euclid(HOUR).rem_euclid(HOURS);
                usize::try_from(hour).ok()
            }
        }
    }

    /// Whether the parts have an order of their own; models and users come in that of their weight.
    pub(crate) fn ordered(self) -> bool {
        !matches!(self, Self::Model | Self::User)
    }

    /// Writes what a part is called, and where a class begins and ends.
    pub(crate) fn put_name(self, log: &Log, part: usize, out: &mut Map<String, Value>) {
        out.insert("name".into(), json!(self.name(log, part)));
        if matches!(self, Self::PromptLength | Self::OutputLength) {
            out.insert("from".into(), json!(EDGES.get(part)));
            out.insert("to".into(), json!(EDGES.get(part + 1)));
        }
    }

    fn name(self, log: &Log, part: usize) -> String {
        let of = |names: &crate::log::Names| {
            u32::try_from(part).map_or(String::new(), |number| names.name(number).to_owned())
        };
        let class = |what: &str| {
            let edge = |at: usize| EDGES.get(at).map(|edge| thousands(u64::from(*edge)));
            let from = edge(part).unwrap_or_default();
            match edge(part + 1) {
                Some(to) => format!("{what} of {from} to under {to} tokens"),
                None => format!("{what} of {from} tokens and more"),
            }
        };
        match self {
            Self::Model => of(&log.models),
            Self::User => of(&log.users),
            Self::PromptLength => class("prompts"),
            Self::OutputLength => class("answers"),
            Self::Hour => format!("{part:02}:00 to {:02}:00 UTC", (part + 1) % 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_begin_at_their_lower_end() {
        let class = |tokens: u32| EDGES.partition_point(|edge| *edge <= tokens) - 1;
        assert_eq!(class(0), 0);
        assert_eq!((class(255), class(256)), (0, 1));
        assert_eq!(class(u32::MAX - 1), EDGES.len() - 1);
    }
}
