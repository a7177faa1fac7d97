//! What a model gets of a conversation that has grown too long for it: the oldest results of tools are
//! left out, then the oldest rounds, or what is older is summed up by the model itself.
//!
//! How long a conversation is, is reckoned: a token for every three bytes, which is rather too many, and
//! corrected by what the provider has counted of the last request. What is left out is kept in the
//! journal, so that a later attempt says the same to the model, whatever its window is then.

use std::ops::Range;

use netra_model::{BYTES_PER_TOKEN, Message as Said, Usage, tokens_in};
use netra_tools::{cut_text, shorten};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a message takes beside its text, in bytes.
const MESSAGE_BYTES: usize = 24;
/// A picture counts like a text of so many bytes: providers scale it down to about 1,600 tokens.
const IMAGE_BYTES: usize = 4_800;
/// The part of the window that is kept for the answer, where the agent sets it no limit.
const ANSWER_PART: u64 = 8;
/// What stands in place of a result that was left out.
const LEFT_OUT: &str = "{\"omitted\":\"an old result; call the tool again if you need it\"}";
/// What stands in place of pictures that are not shown again.
const NOT_SHOWN: &str = "\n[the pictures of this message are not shown any more]";
/// The least that is left of a result that is cut, in bytes.
const MIN_RESULT_BYTES: usize = 512;
/// The most of one message in what is to be summed up, in bytes.
const MAX_RECOUNTED_BYTES: usize = 4 * 1024;
/// What stands before a summary.
const SUMMARY: &str = "[What was said and done before, in short]";

/// What is said to a model, and what of it may go.
pub(super) struct Talk {
    pub(super) said: Vec<Said>,
    /// Where the agent's own question stands. It never goes, nor does the last round after it.
    question: usize,
}

/// What is left out of a conversation, by the places in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Cut {
    /// Messages before the question whose pictures are not shown any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) pictures: Vec<usize>,
    /// Results of tools, one by one.
    pub(super) results: Vec<usize>,
    /// Whole messages, before the question and after it.
    pub(super) messages: Vec<Range<usize>>,
    /// How much is left of each result of the last round, in bytes, where they are cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_results_bytes: Option<usize>,
    /// Whether a summary stands in place of the messages.
    #[serde(default)]
    pub(super) summed_up: bool,
}

impl Cut {
    pub(super) fn is_nothing(&self) -> bool {
        self.pictures.is_empty()
            && self.results.is_empty()
            && self.messages.is_empty()
            && self.last_results_bytes.is_none()
    }

    /// What the user is told.
    pub(super) fn words(&self, window: &Window) -> String {
        let messages: usize = self.messages.iter().map(Range::len).sum();
        let mut parts = Vec::new();
        match (self.summed_up, messages) {
            (_, 0) => {}
            (true, n) => parts.push(format!("{n} older messages were summed up")),
            (false, n) => parts.push(format!("{n} older messages were left out")),
        }
        match self.pictures.len() {
            0 => {}
            n => parts.push(format!(
                "the pictures of {n} older messages are not shown any more"
            )),
        }
        match self.results.len() {
            0 => {}
            n => parts.push(format!("{n} older results of tools were left out")),
        }
        if let Some(bytes) = self.last_results_bytes {
            parts.push(format!("the last results were cut to {bytes} bytes each"));
        }
        format!(
            "The conversation is longer than the {} tokens that the model takes: {}.",
            window.tokens.unwrap_or_default(),
            parts.join(", ")
        )
    }
}

/// How much a model takes.
pub(super) struct Window {
    /// None where that is not known; then nothing is left out.
    tokens: Option<u64>,
    /// What is kept for the answer.
    answer: u64,
    /// Instructions and tools, in bytes.
    fixed: usize,
    /// Tokens that the provider counts for each that is reckoned.
    factor: f64,
}

impl Window {
    pub(super) fn new(tokens: Option<u32>, max_output: Option<u32>, fixed: usize) -> Self {
        let tokens = tokens.map(u64::from);
        let whole = tokens.unwrap_or_default();
        let answer = max_output.map_or(whole / ANSWER_PART, u64::from);
        Self {
            tokens,
            answer: answer.min(whole / 2),
            fixed,
            factor: 1.0,
        }
    }

    /// Learns from what the provider has counted of a request with these messages.
    pub(super) fn learn(&mut self, said: &[Said], usage: Option<&Usage>) {
        let reckoned = tokens_in((self.fixed + bytes_of(said)) as u64);
        if let Some(usage) = usage.filter(|usage| usage.input_tokens > 0) {
            // A little more than was counted: the next request is not like the last one.
            let factor = usage.input_tokens as f64 / reckoned.max(1) as f64 * 1.05;
            self.factor = factor.clamp(0.3, 3.0);
        }
    }

    /// The most bytes that the messages may have; none where there is no bound.
    fn room(&self) -> Option<usize> {
        let tokens = self.tokens?.saturating_sub(self.answer) as f64 / self.factor;
        let bytes = (tokens * BYTES_PER_TOKEN as f64) as usize;
        Some(bytes.saturating_sub(self.fixed))
    }

    /// The most tokens of a summary.
    pub(super) fn summary_tokens(&self) -> u32 {
        u32::try_from(self.tokens.unwrap_or_default() / ANSWER_PART)
            .unwrap_or(u32::MAX)
            .clamp(64, 2_000)
    }
}

/// What messages take of a request, in bytes.
fn bytes_of(said: &[Said]) -> usize {
    said.iter().map(size).sum()
}

fn size(said: &Said) -> usize {
    MESSAGE_BYTES
        + match said {
            Said::User { text, images } => text.len() + images.len() * IMAGE_BYTES,
            Said::Assistant {
                text, tool_calls, ..
            } => {
                let call = |call: &netra_model::ToolCall| {
                    MESSAGE_BYTES + call.name.len() + call.arguments.to_text().len()
                };
                text.len() + tool_calls.iter().map(call).sum::<usize>()
            }
            Said::ToolResult { content, .. } => content.len(),
        }
}

/// What the pictures of a message take beside what stands in their place, in bytes.
fn pictures(said: &Said) -> usize {
    match said {
        Said::User { images, .. } => (images.len() * IMAGE_BYTES).saturating_sub(NOT_SHOWN.len()),
        _ => 0,
    }
}

impl Talk {
    /// A conversation whose last message is the agent's question.
    pub(super) fn new(said: Vec<Said>) -> Self {
        let question = said.len().saturating_sub(1);
        Self { said, question }
    }

    /// What has to go so that the rest fits the window; nothing where all fits.
    pub(super) fn too_long(&self, window: &Window, sums_up: bool) -> Cut {
        let mut cut = Cut::default();
        let Some(room) = window.room() else {
            return cut;
        };
        let over = bytes_of(&self.said).saturating_sub(room);
        if over == 0 {
            return cut;
        }
        let freed = if sums_up {
            self.sum_up(&mut cut, room)
        } else {
            let freed = self.leave_out_pictures(&mut cut, over);
            let freed = freed + self.leave_out_results(&mut cut, over.saturating_sub(freed));
            freed + self.leave_out_messages(&mut cut, over, freed)
        };
        if freed < over {
            self.cut_last_results(&mut cut, over - freed);
        }
        cut
    }

    /// Takes all older messages, but the newest that have room in half the window.
    fn sum_up(&self, cut: &mut Cut, room: usize) -> usize {
        let units = self.units();
        let mut kept = bytes_of(&self.said[self.question..=self.question])
            + bytes_of(&self.said[self.last_round()..]);
        let mut from_here = units.len();
        for (index, unit) in units.iter().enumerate().rev() {
            kept += bytes_of(&self.said[unit.clone()]);
            if kept > room / 2 {
                break;
            }
            from_here = index;
        }
        let mut freed = 0;
        for unit in &units[..from_here] {
            freed += bytes_of(&self.said[unit.clone()]);
            cut.messages.push(unit.clone());
        }
        cut.summed_up = !cut.messages.is_empty();
        freed
    }

    fn leave_out_pictures(&self, cut: &mut Cut, over: usize) -> usize {
        let mut freed = 0;
        for (index, said) in self.said[..self.question].iter().enumerate() {
            let shown = pictures(said);
            if shown > 0 && freed < over {
                freed += shown;
                cut.pictures.push(index);
            }
        }
        freed
    }

    fn leave_out_results(&self, cut: &mut Cut, over: usize) -> usize {
        let mut freed = 0;
        for index in self.question..self.last_round() {
            if freed >= over {
                break;
            }
            if let Said::ToolResult { content, .. } = &self.said[index]
                && content.len() > LEFT_OUT.len()
            {
                freed += content.len() - LEFT_OUT.len();
                cut.results.push(index);
            }
        }
        freed
    }

    /// Beyond what the results have freed.
    fn leave_out_messages(&self, cut: &mut Cut, over: usize, freed: usize) -> usize {
        let mut more = 0;
        for unit in self.units() {
            if freed + more >= over {
                break;
            }
            let emptied = cut.results.extract_if(.., |index| unit.contains(index));
            let emptied: usize = emptied
                .map(|index| size(&self.said[index]) - MESSAGE_BYTES - LEFT_OUT.len())
                .sum();
            let hidden = cut.pictures.extract_if(.., |index| unit.contains(index));
            let hidden: usize = hidden.map(|index| pictures(&self.said[index])).sum();
            let emptied = emptied + hidden;
            more += bytes_of(&self.said[unit.clone()]) - emptied;
            cut.messages.push(unit);
        }
        more
    }

    fn cut_last_results(&self, cut: &mut Cut, over: usize) {
        let last = &self.said[self.last_round()..];
        let results = || {
            last.iter().filter_map(|said| match said {
                Said::ToolResult { content, .. } => Some(content.len()),
                _ => None,
            })
        };
        let left = results().sum::<usize>().saturating_sub(over);
        let each = left.checked_div(results().count());
        cut.last_results_bytes = each.map(|bytes| bytes.max(MIN_RESULT_BYTES));
    }

    /// Where the last round begins: the model's last answer that is followed by something.
    fn last_round(&self) -> usize {
        let own = &self.said[self.question + 1..];
        let answer = |said: &Said| matches!(said, Said::Assistant { .. });
        own.iter()
            .rposition(answer)
            .map_or(self.said.len(), |index| self.question + 1 + index)
    }

    /// What may go as a whole, oldest first: turns before the question, each with what answers it, and
    /// rounds after it but the last one.
    fn units(&self) -> Vec<Range<usize>> {
        let turns = self.split(0..self.question, |said| matches!(said, Said::User { .. }));
        let rounds = self.split(self.question + 1..self.last_round(), |said| {
            matches!(said, Said::Assistant { .. })
        });
        turns.into_iter().chain(rounds).collect()
    }

    fn split(&self, within: Range<usize>, begins: impl Fn(&Said) -> bool) -> Vec<Range<usize>> {
        let mut units: Vec<Range<usize>> = Vec::new();
        for index in within {
            match units.last_mut() {
                Some(unit) if !begins(&self.said[index]) => unit.end = index + 1,
                _ => units.push(index..index + 1),
            }
        }
        units
    }

    /// Leaves out what the cut says; the summary stands first.
    pub(super) fn apply(&mut self, cut: &Cut, summary: Option<&str>) {
        if let Some(most) = cut.last_results_bytes {
            let from = self.last_round();
            for said in &mut self.said[from..] {
                if let Said::ToolResult { content, .. } = said {
                    *content = cut_result(content, most);
                }
            }
        }
        for index in &cut.pictures {
            if let Some(Said::User { text, images }) = self.said.get_mut(*index) {
                images.clear();
                text.push_str(NOT_SHOWN);
            }
        }
        for index in &cut.results {
            if let Some(Said::ToolResult { content, .. }) = self.said.get_mut(*index) {
                LEFT_OUT.clone_into(content);
            }
        }
        // From the end, so that the places before stay what they are.
        for range in cut.messages.iter().rev() {
            self.said.drain(range.clone());
            if range.end <= self.question {
                self.question -= range.len();
            }
        }
        if let Some(summary) = summary {
            let text = format!("{SUMMARY}\n{summary}");
            self.said.insert(0, Said::user(text));
            self.question += 1;
        }
    }

    /// What is to be summed up, as a text that has room in the window itself: the newest of it.
    pub(super) fn recount(&self, cut: &Cut, window: &Window) -> String {
        let messages = cut.messages.iter().cloned().flatten();
        let lines: Vec<String> = messages.map(|index| recounted(&self.said[index])).collect();
        let room = window.room().unwrap_or(usize::MAX);
        let mut from_here = lines.len();
        let mut bytes = 0;
        for (index, line) in lines.iter().enumerate().rev() {
            bytes += line.len();
            if bytes > room {
                break;
            }
            from_here = index;
        }
        lines[from_here..].join("\n")
    }
}

fn cut_result(content: &str, most: usize) -> String {
    match serde_json::from_str::<Value>(content) {
        Ok(value) => shorten(&value, most).to_string(),
        Err(_) => cut_text(content, most),
    }
}

fn recounted(said: &Said) -> String {
    let line = match said {
        Said::User { text, .. } => format!("user: {text}"),
        Said::Assistant {
            text, tool_calls, ..
        } => {
            let mut line = format!("assistant: {text}");
            for call in tool_calls {
                let arguments = cut_text(&call.arguments.to_text(), MAX_RECOUNTED_BYTES / 4);
                line.push_str(&format!("\ncalled {} with {arguments}", call.name));
            }
            line
        }
        Said::ToolResult { content, .. } => format!("result: {content}"),
    };
    cut_text(&line, MAX_RECOUNTED_BYTES)
}

#[cfg(test)]
mod tests {
    use netra_model::{Arguments, ToolCall};
    use serde_json::json;

    use super::*;

    fn user(text: &str) -> Said {
        Said::user(text)
    }

    fn answer(text: &str) -> Said {
        Said::Assistant {
            text: text.into(),
            tool_calls: Vec::new(),
            keepsake: None,
        }
    }

    fn round(number: usize, bytes: usize) -> [Said; 2] {
        let call = ToolCall {
            id: format!("c{number}"),
            name: "t".into(),
            arguments: Arguments::Json(json!({})),
        };
        [
            Said::Assistant {
                text: String::new(),
                tool_calls: vec![call],
                keepsake: None,
            },
            Said::ToolResult {
                tool_call_id: format!("c{number}"),
                content: json!("x".repeat(bytes)).to_string(),
            },
        ]
    }

    /// Two turns before the question, and three rounds after it.
    fn talk(bytes: usize) -> Talk {
        let mut talk = Talk::new(vec![
            user("first"),
            answer("one"),
            user("second"),
            answer("two"),
            user("the question"),
        ]);
        talk.said.extend((0..3).flat_map(|n| round(n, bytes)));
        talk
    }

    fn window(tokens: u32) -> Window {
        Window::new(Some(tokens), Some(0), 0)
    }

    fn results(talk: &Talk) -> Vec<usize> {
        let result = |said: &Said| match said {
            Said::ToolResult { content, .. } => Some(content.len()),
            _ => None,
        };
        talk.said.iter().filter_map(result).collect()
    }

    #[test]
    fn what_fits_stays_and_so_it_does_where_no_window_is_known() {
        assert!(talk(1_000).too_long(&window(2_000), false).is_nothing());
        let unknown = Window::new(None, None, 0);
        assert!(talk(1_000_000).too_long(&unknown, false).is_nothing());
    }

    #[test]
    fn the_oldest_results_go_first() {
        let mut talk = talk(3_000);
        let cut = talk.too_long(&window(2_500), false);
        assert_eq!((&cut.results[..], &cut.messages[..]), (&[6][..], &[][..]));
        talk.apply(&cut, None);
        assert_eq!(results(&talk), [LEFT_OUT.len(), 3_002, 3_002]);
        assert!(talk.too_long(&window(2_500), false).is_nothing());
    }

    #[test]
    fn then_whole_turns_and_rounds_and_never_the_question_or_the_last_round() {
        let mut talk = talk(3_000);
        let cut = talk.too_long(&window(1_040), false);
        talk.apply(&cut, None);
        assert!(talk.too_long(&window(1_040), false).is_nothing(), "{cut:?}");
        assert!(matches!(&talk.said[0], Said::User { text, .. } if text == "the question"));
        assert_eq!(talk.said[1..], round(2, 3_000));
    }

    #[test]
    fn pictures_of_earlier_messages_go_before_anything_else_and_leave_a_word() {
        let image = || netra_model::Image {
            media_type: "image/png".into(),
            base64: "".into(),
        };
        let mut talk = talk(1_000);
        for index in [0, 2, 4] {
            if let Said::User { images, .. } = &mut talk.said[index] {
                images.push(image());
            }
        }
        let cut = talk.too_long(&window(4_500), false);
        assert_eq!((&cut.pictures[..], cut.results.len()), (&[0][..], 0));
        talk.apply(&cut, None);
        let shown = |index: usize| match &talk.said[index] {
            Said::User { text, images } => (images.len(), text.contains("not shown any more")),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            [shown(0), shown(2), shown(4)],
            [(0, true), (1, false), (1, false)]
        );
        assert!(talk.too_long(&window(4_500), false).is_nothing());
        // A message that goes as a whole takes its pictures with it, and is counted once.
        let cut = talk.too_long(&window(2_600), false);
        talk.apply(&cut, None);
        assert!(talk.too_long(&window(2_600), false).is_nothing(), "{cut:?}");
    }

    #[test]
    fn what_alone_is_too_long_is_cut() {
        let mut talk = talk(30_000);
        let cut = talk.too_long(&window(1_000), false);
        talk.apply(&cut, None);
        assert!(results(&talk)[0] < 3_000, "{cut:?}");
        let content = match talk.said.last() {
            Some(Said::ToolResult { content, .. }) => content,
            other => panic!("{other:?}"),
        };
        assert!(serde_json::from_str::<Value>(content).is_ok(), "{content}");
    }

    #[test]
    fn a_summary_stands_in_place_of_what_is_older() {
        let mut talk = talk(3_000);
        let cut = talk.too_long(&window(2_500), true);
        assert!(cut.summed_up);
        let told = talk.recount(&cut, &window(2_500));
        assert!(told.contains("user: first") && told.contains("called t with {}"));
        talk.apply(&cut, Some("it went well"));
        assert!(matches!(&talk.said[0], Said::User { text, .. } if text.ends_with("it went well")));
        assert!(matches!(&talk.said[1], Said::User { text, .. } if text == "the question"));
        assert_eq!(talk.said[2..], round(2, 3_000));
        assert_eq!(talk.question, 1);
    }

    #[test]
    fn what_the_provider_has_counted_corrects_the_reckoning() {
        let said = [user(&"word ".repeat(600))];
        let mut window = window(1_100);
        let usage = |input_tokens| Usage {
            input_tokens,
            output_tokens: 1,
            cached_tokens: None,
            cost_usd: None,
        };
        let before = window.room();
        window.learn(&said, Some(&usage(500)));
        assert!(window.room() > before, "fewer tokens than reckoned");
        window.learn(&said, Some(&usage(2_500)));
        assert!(window.room() < before, "more tokens than reckoned");
        let known = window.room();
        window.learn(&said, None);
        assert_eq!(window.room(), known);
    }

    #[test]
    fn a_cut_is_read_from_the_journal_as_it_was_written() {
        let cut = talk(3_000).too_long(&window(1_040), false);
        let written = serde_json::to_value(&cut).unwrap();
        assert_eq!(serde_json::from_value::<Cut>(written).unwrap(), cut);
    }
}
