//! What repeats in the prompts of a log: whole prompts, and beginnings that a provider's prompt cache could have kept. Where
//! the log has neither texts nor hashes, it says what to log.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::log::Log;
use crate::output::{self, Missing, round, share};
use crate::profile::ordered;
use crate::prompts::BLOCK_BYTES;
use crate::times::MINUTE;

/// How long a provider keeps a beginning, where the caller says nothing else: the shorter of the two common times.
const KEEP_MINUTES: u32 = 5;
/// Beginnings shorter than this are cached by no large provider.
const LEAST_TOKENS: u32 = 1_024;
/// How many repeated prompts are told one by one.
const MAX_SHOWN: usize = 10;
const MAX_KEEP_MINUTES: u32 = 1_440;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Arguments {
    pub(crate) file: Option<String>,
    keep_minutes: Option<u32>,
    least_tokens: Option<u32>,
}

/// The rows in the order in which a cache would have seen them, with the time of each where all have one.
struct Sequence {
    rows: Vec<u32>,
    timed: bool,
    keep: i64,
}

impl Sequence {
    fn of(log: &Log, keep_minutes: u32) -> Self {
        let timed = log.time.present() == log.rows;
        let rows = match timed {
            true => ordered(log).0,
            false => (0..u32::try_from(log.rows).unwrap_or(u32::MAX)).collect(),
        };
        Self {
            rows,
            timed,
            keep: i64::from(keep_minutes) * MINUTE,
        }
    }

    /// The time of a row; all are the same where they are not known.
    fn time(&self, log: &Log, row: usize) -> i64 {
        if self.timed {
            log.time.get(row).unwrap_or(0)
        } else {
            0
        }
    }

    /// Whether something last seen then is still kept.
    fn kept(&self, seen: i64, now: i64) -> bool {
        !self.timed || now.saturating_sub(seen) <= self.keep
    }
}

/// What repeats.
pub(crate) fn repeats(log: &Log, arguments: &Arguments) -> Result<Value, Error> {
    let keep = arguments.keep_minutes.unwrap_or(KEEP_MINUTES);
    if keep == 0 || keep > MAX_KEEP_MINUTES {
        return Err(Error::invalid(format!(
            "keep_minutes must be from 1 to {MAX_KEEP_MINUTES}"
        )));
    }
    let least = arguments.least_tokens.unwrap_or(LEAST_TOKENS);
    let (texts, whole) = log.prompts.present();
    let prefixes = log.prompts.with_prefix();
    let sequence = Sequence::of(log, keep);
    let mut missing = Missing::default();
    let mut assumptions = output::reading_assumptions(log);
    let mut out = Map::new();
    out.insert("file".into(), json!(log.file));
    out.insert("requests".into(), json!(log.rows));
    out.insert("requests_with_prompt".into(), json!(whole));
    out.insert(
        "basis".into(),
        json!(if texts > 0 {
            Some("text")
        } else if whole + prefixes > 0 {
            Some("hash")
        } else {
            None
        }),
    );
    out.insert("keep_minutes".into(), json!(sequence.timed.then_some(keep)));
    let exact = (whole > 0).then(|| exact(log, &sequence));
    if exact.is_none() {
        missing.add("exact", NEEDED);
    }
    out.insert("exact".into(), json!(exact));
    let named = (prefixes > 0).then(|| named_beginnings(log, &sequence));
    out.insert("named_beginnings".into(), json!(named));
    let prefix = (texts > 0).then(|| beginnings(log, &sequence, least));
    if prefix.is_none() {
        missing.add("prefix", NEEDED);
    }
    out.insert("prefix".into(), json!(prefix));
    if whole + prefixes > 0 && !sequence.timed {
        assumptions.push("not every row has a time, so rows are taken in the order of the file and everything is kept for ever".into());
    }
    if texts > 0 {
        assumptions.push(
            "the tokens of a prompt are spread evenly over its text; a cache is shared by all requests to one model and keeps \
             what was used within keep_minutes"
                .into(),
        );
    }
    out.insert("missing".into(), missing.into_value());
    out.insert("assumptions".into(), json!(assumptions));
    Ok(Value::Object(out))
}

/// What a log must have for this analysis.
const NEEDED: &str = "the log has no prompts; log a column prompt (the text), or prompt_hash (SHA-256 of the whole prompt) and \
    prefix_hash (SHA-256 of its fixed beginning: system text, tools, examples)";

/// Whole prompts that came before, at all and within the time that is kept.
fn exact(log: &Log, sequence: &Sequence) -> Value {
    #[derive(Default)]
    struct Seen {
        times: u64,
        input: u64,
        output: u64,
        last: i64,
        first_row: usize,
    }
    let mut seen: HashMap<(i64, u32), Seen> = HashMap::new();
    let (mut repeated, mut soon, mut input, mut output) = (0_u64, 0_u64, 0_u64, 0_u64);
    for row in &sequence.rows {
        let row = *row as usize;
        let Some(prompt) = log.prompts.whole(row) else {
            continue;
        };
        let now = sequence.time(log, row);
        let one = seen.entry((prompt, model_of(log, row))).or_default();
        let tokens = (
            log.input.get(row).map_or(0, u64::from),
            log.output.get(row).map_or(0, u64::from),
        );
        if one.times > 0 {
            repeated += 1;
            soon += u64::from(sequence.kept(one.last, now));
            input += tokens.0;
            output += tokens.1;
            one.input += tokens.0;
            one.output += tokens.1;
        } else {
            one.first_row = row;
        }
        one.times += 1;
        one.last = now;
    }
    let of = log.prompts.present().1 as u64;
    let mut top: Vec<&Seen> = seen.values().filter(|one| one.times > 1).collect();
    top.sort_by_key(|one| (std::cmp::Reverse(one.times), one.first_row));
    let top: Vec<Value> = top
        .into_iter()
        .take(MAX_SHOWN)
        .map(|one| {
            json!({
                "first_row": one.first_row + 1, "requests": one.times, "repeated_input_tokens": one.input,
                "repeated_output_tokens": one.output,
            })
        })
        .collect();
    let known = |present: usize, sum: u64| (present > 0).then_some(sum);
    json!({
        "distinct": seen.len(), "repeated_requests": repeated, "share_of_requests": share(repeated, of),
        "repeated_within_keep_minutes": sequence.timed.then_some(soon),
        "repeated_input_tokens": known(log.input.present(), input),
        "repeated_output_tokens": known(log.output.present(), output),
        "most_repeated": top,
    })
}

/// Beginnings as the log names them by hash: how many requests find theirs kept. How long they are, the log does not say.
fn named_beginnings(log: &Log, sequence: &Sequence) -> Value {
    let mut seen: HashMap<(i64, u32), i64> = HashMap::new();
    let mut hits = 0_u64;
    for row in &sequence.rows {
        let row = *row as usize;
        let Some(prefix) = log.prompts.prefix(row) else {
            continue;
        };
        let now = sequence.time(log, row);
        let last = seen.insert((prefix, model_of(log, row)), now);
        hits += u64::from(last.is_some_and(|last| sequence.kept(last, now)));
    }
    let of = log.prompts.with_prefix() as u64;
    json!({ "distinct": seen.len(), "requests_with_hit": hits, "share_of_requests": share(hits, of), "of": of })
}

/// The longest beginning of each prompt, in whole blocks, that was seen before and is still kept.
fn beginnings(log: &Log, sequence: &Sequence, least: u32) -> Value {
    let mut seen: HashMap<(u64, u32), i64> = HashMap::new();
    let (mut text, mut shared, mut requests, mut hits) = (0_u64, 0_u64, 0_u64, 0_u64);
    let (mut input, mut cached) = (0_u64, 0.0_f64);
    for row in &sequence.rows {
        let row = *row as usize;
        let Some((bytes, chain)) = log.prompts.beginnings(row) else {
            continue;
        };
        let (now, model) = (sequence.time(log, row), model_of(log, row));
        let kept = |hash: &u64| {
            seen.get(&(*hash, model))
                .is_some_and(|last| sequence.kept(*last, now))
        };
        let blocks = chain.iter().take_while(|hash| kept(hash)).count();
        for hash in chain {
            seen.insert((*hash, model), now);
        }
        let found = (blocks * BLOCK_BYTES) as u64;
        requests += 1;
        text += u64::from(bytes);
        shared += found;
        if let Some(tokens) = log.input.get(row) {
            input += u64::from(tokens);
            let part = found as f64 / f64::from(bytes.max(1)) * f64::from(tokens);
            if part >= f64::from(least) {
                hits += 1;
                cached += part;
            }
        }
    }
    let known = log.input.present() > 0;
    let of_input = (known && input > 0).then(|| round(cached / input as f64, 6));
    json!({
        "block_bytes": BLOCK_BYTES, "least_tokens": least, "requests": requests,
        "text_bytes": text, "repeated_bytes": shared, "share_of_text": share(shared, text),
        "requests_with_hit": known.then_some(hits),
        "cacheable_input_tokens": known.then(|| cached.round() as u64),
        "cacheable_share": of_input,
        "method": "for each request the longest beginning in whole blocks that an earlier request to the same model had within \
            keep_minutes; its tokens are its part of the text times the request's input tokens, and count only from \
            least_tokens on",
    })
}

/// The model of a row as a number; rows without one share a cache.
fn model_of(log: &Log, row: usize) -> u32 {
    log.model.get(row).unwrap_or(u32::MAX)
}
