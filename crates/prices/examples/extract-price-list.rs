//! Writes `prices.toml` from the data file of the `genai-prices` crate, so that no price in it comes from memory.
//!
//! `cargo run -p netra-prices --example extract-price-list -- path/to/genai-prices-0.2.1/data/prices.json prices.toml`

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// What the data file is: the release and its day of publication on crates.io.
const RELEASE: &str = "0.2.1";
const DATE: &str = "2026-10-30";
/// Makers that serve their own models.
const PROVIDERS: [&str; 8] = [
    "openai",
    "anthropic",
    "google",
    "mistral",
    "x-ai",
    "deepseek",
    "groq",
    "cohere",
];
/// What a question without a model is answered for: a large and a small one of several makers.
const DEFAULTS: [&str; 7] = [
    "gpt-6-sol",
    "gpt-6-luna",
    "claude-sonnet-5-5",
    "claude-haiku-5-5",
    "gemini-3.8-flash",
    "gemini-3.1-flash-lite",
    "mistral-large-4",
];

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (Some(from), Some(to)) = (arguments.next(), arguments.next()) else {
        return Err("usage: extract-price-list PRICES_JSON OUT_TOML".into());
    };
    let data: Value = serde_json::from_str(&std::fs::read_to_string(from)?)?;
    let mut out = head();
    let mut found = Vec::new();
    for wanted in PROVIDERS {
        let providers = data.as_array().ok_or("the data is no list")?;
        let provider = providers
            .iter()
            .find(|p| p["id"] == wanted)
            .ok_or("a provider is gone")?;
        for model in provider["models"].as_array().into_iter().flatten() {
            if let Some((id, text)) = entry(wanted, model) {
                found.push(id);
                out.push_str(&text);
            }
        }
    }
    if let Some(gone) = DEFAULTS.iter().find(|id| !found.iter().any(|f| f == *id)) {
        return Err(format!("the data has no {gone}").into());
    }
    std::fs::write(to, out)?;
    Ok(())
}

fn head() -> String {
    format!(
        "# Prices of language models in US dollars per million tokens.\n\
         # Extracted by examples/extract-price-list.rs from the data of the crate genai-prices {RELEASE}\n\
         # (https://github.com/pydantic/genai-prices, MIT licence, Copyright (c) Pydantic Services Inc. 2025 to present).\n\
         # Left out: models whose price depends on the time of day or has more than two tiers, and prices other than text tokens.\n\
         # Prices change: check the one that you decide by at its maker.\n\n\
         name = \"genai-prices {RELEASE}\"\n\
         source = \"https://github.com/pydantic/genai-prices (crate genai-prices {RELEASE})\"\n\
         date = \"{DATE}\"\n\
         licence = \"MIT, Copyright (c) Pydantic Services Inc. 2025 to present\"\n\
         currency = \"USD\"\n\
         default_models = [\"{}\"]\n",
        DEFAULTS.join("\", \"")
    )
}

fn entry(provider: &str, model: &Value) -> Option<(String, String)> {
    let id = model["id"].as_str()?;
    // Google's cloud resells models of other makers, which are listed under those.
    if provider == "google" && !id.starts_with("gemini") && !id.starts_with("gemma") {
        return None;
    }
    let prices = Rates::of(in_force(&model["prices"])?)?;
    let mut out = format!("\n[[model]]\nid = {id:?}\nprovider = {provider:?}\n");
    let name = model["name"].as_str().unwrap_or(id);
    writeln!(out, "name = {name:?}").ok()?;
    if let Some(window) = model["context_window"].as_u64() {
        writeln!(out, "context_window = {window}").ok()?;
    }
    let also = names(&model["match"], id);
    if !also.is_empty() {
        writeln!(out, "also = {also:?}").ok()?;
    }
    writeln!(out, "{}", prices.base.join("\n")).ok()?;
    let batch = model["price_variants"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|variant| {
            let when = variant["when"].as_object();
            when.is_some_and(|when| {
                when.len() == 1 && when.get("processing") == Some(&"batch".into())
            }) && variant["constraint"]["start_date"]
                .as_str()
                .is_none_or(|start| start <= DATE)
        });
    let batch = batch.and_then(|b| Rates::of(b["prices"].as_object()?));
    if let Some(batch) = &batch {
        writeln!(out, "batch = {{ {} }}", batch.base.join(", ")).ok()?;
    }
    if let Some((above, rates)) = &prices.long {
        let same = |b: &&Rates| b.long.as_ref().is_some_and(|(start, _)| start == above);
        let long_batch = batch.as_ref().filter(same).and_then(|b| b.long.as_ref());
        let tail = long_batch
            .map(|(_, rates)| format!(", batch = {{ {} }}", rates.join(", ")))
            .unwrap_or_default();
        writeln!(
            out,
            "long_context = {{ above = {above}, {}{tail} }}",
            rates.join(", ")
        )
        .ok()?;
    }
    Some((id.to_owned(), out))
}

/// The prices on the day of the list; none when they depend on the time of day.
fn in_force(prices: &Value) -> Option<&Map<String, Value>> {
    let Value::Array(history) = prices else {
        return prices.as_object();
    };
    if history
        .iter()
        .any(|entry| entry["constraint"]["start_time"].is_string())
    {
        return None;
    }
    let active = history.iter().rev().find(|entry| {
        entry["constraint"]["start_date"]
            .as_str()
            .is_none_or(|start| start <= DATE)
    });
    active?["prices"].as_object()
}

struct Rates {
    base: Vec<String>,
    long: Option<(u64, Vec<String>)>,
}

impl Rates {
    fn of(prices: &Map<String, Value>) -> Option<Self> {
        let mut base = Vec::new();
        let mut long = Vec::new();
        let mut start = None;
        for (field, key) in [
            ("input", "input_mtok"),
            ("cached_input", "cache_read_mtok"),
            ("cache_write", "cache_write_mtok"),
            ("output", "output_mtok"),
        ] {
            match prices.get(key) {
                Some(Value::Number(price)) => {
                    base.push(format!("{field} = {price}"));
                    long.push(format!("{field} = {price}"));
                }
                Some(Value::Object(tiered)) => {
                    let [tier] = tiered.get("tiers")?.as_array()?.as_slice() else {
                        return None;
                    };
                    let above = tier["start"].as_u64()?;
                    if *start.get_or_insert(above) != above {
                        return None;
                    }
                    base.push(format!("{field} = {}", tiered.get("base")?));
                    long.push(format!("{field} = {}", tier["price"]));
                }
                _ if key == "input_mtok" || key == "output_mtok" => return None,
                _ => {}
            }
        }
        Some(Self {
            base,
            long: start.map(|start| (start, long)),
        })
    }
}

/// Other names of the model: exact ones, and beginnings with a star. Patterns beyond these are left out, so that a name
/// is rather not priced than priced wrongly.
fn names(rule: &Value, id: &str) -> Vec<String> {
    let mut found = Vec::new();
    let Some(rule) = rule.as_object() else {
        return found;
    };
    for (kind, value) in rule {
        match (kind.as_str(), value) {
            ("or", Value::Array(rules)) => {
                for rule in rules {
                    found.extend(names(rule, id));
                }
            }
            ("equals", Value::String(name)) if name != id => found.push(name.clone()),
            ("starts_with", Value::String(name)) => found.push(format!("{name}*")),
            _ => {}
        }
    }
    found
}
