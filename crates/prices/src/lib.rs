//! What calls of language models cost: the dated price list that the crate brings, or one that somebody gives in the same
//! form. A model that a list does not name has no price; none is guessed.

mod tariff;

use serde::Deserialize;
use serde_json::{Value, json};

pub use tariff::{Call, PerMillion, Tariff};

/// Why a list cannot be used, or does not have a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// The list that is used when the user gives none; its head names source and date.
const BUILT_IN: &str = include_str!("../prices.toml");
/// Where it comes from.
const BUILT_IN_ORIGIN: &str = "built-in";
/// The longest price list that is read, in bytes.
pub const MAX_LIST_BYTES: usize = 1 << 20;

/// Prices in millionths of a millionth of a dollar per token, so that sums stay whole numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    pub input: i64,
    pub cached_input: Option<i64>,
    pub cache_write: Option<i64>,
    pub output: i64,
}

/// A price as the list writes it, of one pico-dollar per token.
pub fn per_million(pico: i64) -> f64 {
    pico as f64 / 1e6
}

/// Prices for prompts of more than `above` tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongContext {
    pub above: u32,
    pub rates: Rates,
    pub batch: Option<Rates>,
}

/// One model of the list.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    pub id: String,
    pub provider: Option<String>,
    pub name: Option<String>,
    pub context_window: Option<u64>,
    also: Vec<String>,
    pub rates: Rates,
    pub batch: Option<Rates>,
    pub long: Option<LongContext>,
}

/// A price list and where it comes from.
#[derive(Debug, Clone)]
pub struct PriceList {
    name: String,
    source: Option<String>,
    date: Option<String>,
    licence: Option<String>,
    /// `built-in`, `argument` or `file NAME`.
    origin: String,
    pub default_models: Vec<String>,
    pub models: Vec<Model>,
    /// For the models that this list does not name.
    base: Option<Box<PriceList>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawList {
    name: String,
    source: Option<String>,
    date: Option<String>,
    licence: Option<String>,
    currency: Option<String>,
    #[serde(default)]
    default_models: Vec<String>,
    #[serde(default, alias = "models")]
    model: Vec<RawModel>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawModel {
    id: String,
    provider: Option<String>,
    name: Option<String>,
    context_window: Option<u64>,
    #[serde(default)]
    also: Vec<String>,
    input: f64,
    cached_input: Option<f64>,
    cache_write: Option<f64>,
    output: f64,
    batch: Option<RawRates>,
    long_context: Option<RawLong>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRates {
    input: f64,
    cached_input: Option<f64>,
    cache_write: Option<f64>,
    output: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLong {
    above: u32,
    input: f64,
    cached_input: Option<f64>,
    cache_write: Option<f64>,
    output: f64,
    batch: Option<RawRates>,
}

impl PriceList {
    /// The list of the crate.
    pub fn built_in() -> Result<Self, Error> {
        Self::parse(BUILT_IN, BUILT_IN_ORIGIN)
    }

    /// Reads a list in TOML, or in JSON when it starts with a brace.
    pub fn parse(text: &str, origin: &str) -> Result<Self, Error> {
        if text.len() > MAX_LIST_BYTES {
            return Err(Error("the price list is longer than 1 MiB".to_owned()));
        }
        let text = text.trim_start_matches('\u{feff}');
        let raw: Result<RawList, String> = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| error.to_string())
        } else {
            toml::from_str(text).map_err(|error| error.to_string())
        };
        let raw = raw.map_err(|error| unreadable(&error))?;
        if raw
            .currency
            .as_deref()
            .is_some_and(|currency| currency != "USD")
        {
            return Err(unreadable("the currency is not USD"));
        }
        if raw.model.is_empty() {
            return Err(unreadable("it lists no model"));
        }
        let models: Result<Vec<Model>, Error> = raw.model.into_iter().map(model).collect();
        Ok(Self {
            name: raw.name,
            source: raw.source,
            date: raw.date,
            licence: raw.licence,
            origin: origin.to_owned(),
            default_models: raw.default_models,
            models: models?,
            base: None,
        })
    }

    /// This list, and another one for the models that it does not name.
    #[must_use]
    pub fn over(self, base: Self) -> Self {
        let default_models = match self.default_models.is_empty() {
            true => base.default_models.clone(),
            false => self.default_models,
        };
        Self {
            default_models,
            base: Some(Box::new(base)),
            ..self
        }
    }

    /// Its name and date, and where it comes from.
    pub fn title(&self) -> String {
        self.titled(&self.origin)
    }

    /// The same for users of a server, who are not told which file a list of its operator's is in.
    pub fn title_for_users(&self) -> String {
        self.titled(match &*self.origin {
            BUILT_IN_ORIGIN => BUILT_IN_ORIGIN,
            _ => "the server's",
        })
    }

    fn titled(&self, origin: &str) -> String {
        let date = self.date.as_deref().unwrap_or("no date");
        format!("{} ({date}, {origin})", self.name)
    }

    /// The model of a name as logs write it: `gpt-4o-2024-08-06`, `openai/gpt-4o`, `GPT-4`. `None` rather than a guess.
    pub fn find(&self, name: &str) -> Option<&Model> {
        let base = || self.base.as_ref()?.find(name);
        self.find_here(name).or_else(base)
    }

    fn find_here(&self, name: &str) -> Option<&Model> {
        let name = name.trim().to_ascii_lowercase();
        if let Some((provider, rest)) = name.split_once('/') {
            let of_provider = |m: &&Model| m.provider.as_deref() == Some(provider);
            let found = self
                .models
                .iter()
                .filter(of_provider)
                .find(|m| m.id == rest);
            if found.is_some() {
                return found;
            }
        }
        self.among(&name, |_| true)
    }

    /// The model of a name at one provider of the list, whose prices are its own, and the list that names it.
    pub fn find_of(&self, provider: &str, name: &str) -> Option<(&Model, &Self)> {
        let wanted = name.trim().to_ascii_lowercase();
        let here = self.among(&wanted, |model| model.provider.as_deref() == Some(provider));
        let base = || self.base.as_ref()?.find_of(provider, name);
        here.map(|model| (model, self)).or_else(base)
    }

    /// The first of these that has the name, in the order of how exactly it has it.
    fn among(&self, name: &str, counts: impl Fn(&Model) -> bool) -> Option<&Model> {
        let models = || self.models.iter().filter(|model| counts(model));
        let bare = name.rsplit('/').next().unwrap_or(name);
        let undated = without_date(bare);
        let exact = |wanted: &str| {
            let named = |m: &&Model| m.id == wanted || m.also.iter().any(|other| other == wanted);
            models()
                .find(|m| m.id == wanted)
                .or_else(|| models().find(named))
        };
        exact(name)
            .or_else(|| exact(bare))
            .or_else(|| exact(undated))
            .or_else(|| {
                let beginnings = models().flat_map(|m| {
                    let starts = m.also.iter().filter_map(|other| other.strip_suffix('*'));
                    starts
                        .filter(|start| bare.starts_with(start))
                        .map(move |start| (start.len(), m))
                });
                // The first of equally long beginnings wins, as the order of the list says.
                beginnings
                    .fold(None, |best: Option<(usize, &Model)>, found| match best {
                        Some(best) if best.0 >= found.0 => Some(best),
                        _ => Some(found),
                    })
                    .map(|(_, model)| model)
            })
    }

    /// The model of a name, or an error that names close ones.
    pub fn require(&self, name: &str) -> Result<&Model, Error> {
        self.find(name).ok_or_else(|| {
            let wanted = name.to_ascii_lowercase();
            let stem = wanted
                .split(['-', '/', ' '])
                .next()
                .unwrap_or_default()
                .to_owned();
            let close: Vec<&str> = self
                .models
                .iter()
                .map(|m| m.id.as_str())
                .filter(|id| !stem.is_empty() && id.starts_with(&stem))
                .take(12)
                .collect();
            let hint = if close.is_empty() {
                let ids: Vec<&str> = self.models.iter().map(|m| m.id.as_str()).take(12).collect();
                format!("it has for example {}", ids.join(", "))
            } else {
                format!("close ones are {}", close.join(", "))
            };
            Error(format!(
                "the price list \"{}\" has no model \"{}\"; {hint}",
                self.name,
                cut(name, 80)
            ))
        })
    }

    /// What results say about the list.
    pub fn describe(&self) -> Value {
        let mut described = json!({
            "name": self.name, "source": self.source, "date": self.date, "licence": self.licence,
            "currency": "USD", "origin": self.origin, "models": self.models.len(),
        });
        if let Some(base) = &self.base {
            described["others"] = base.describe();
        }
        described
    }

    /// The sentence that every priced result carries.
    pub fn assumption(&self) -> String {
        let date = self.date.as_deref().unwrap_or("no date");
        let base = self
            .base
            .as_ref()
            .map(|base| format!(", else by {}", base.title()));
        format!(
            "all requests are priced by the list \"{}\" ({date}){}, whatever their own date; discounts and taxes are not in it",
            self.name,
            base.unwrap_or_default()
        )
    }
}

/// At most so many characters of a text that came from outside, on one line.
fn cut(text: &str, max_chars: usize) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut cut: String = plain.take(max_chars).collect();
    if text.chars().nth(max_chars).is_some() {
        cut.pop();
        cut.push('…');
    }
    cut
}

fn unreadable(reason: &str) -> Error {
    Error(format!(
        "the price list cannot be read: {}",
        cut(reason, 300)
    ))
}

fn without_date(name: &str) -> &str {
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let bytes = name.as_bytes();
    let n = bytes.len();
    if let (Some(head), Some(tail)) = (
        name.get(..n.wrapping_sub(11)),
        name.get(n.wrapping_sub(11)..),
    ) && let [b'-', y @ .., b'-', _, _, b'-', _, _] = tail.as_bytes()
        && y.len() == 4
        && tail.bytes().all(|b| b == b'-' || b.is_ascii_digit())
    {
        return head;
    }
    if let (Some(head), Some(tail)) = (name.get(..n.wrapping_sub(9)), name.get(n.wrapping_sub(9)..))
        && let Some(date) = tail.strip_prefix('-')
        && digits(date)
    {
        return head;
    }
    name
}

fn model(raw: RawModel) -> Result<Model, Error> {
    let at = |price: f64| pico(price, &raw.id);
    let optional = |price: Option<f64>| price.map(at).transpose();
    let rates = Rates {
        input: at(raw.input)?,
        cached_input: optional(raw.cached_input)?,
        cache_write: optional(raw.cache_write)?,
        output: at(raw.output)?,
    };
    let some_rates = |raw: &Option<RawRates>| -> Result<Option<Rates>, Error> {
        let Some(raw) = raw else { return Ok(None) };
        Ok(Some(Rates {
            input: at(raw.input)?,
            cached_input: optional(raw.cached_input)?,
            cache_write: optional(raw.cache_write)?,
            output: at(raw.output)?,
        }))
    };
    let long = match &raw.long_context {
        None => None,
        Some(long) => Some(LongContext {
            above: long.above,
            rates: Rates {
                input: at(long.input)?,
                cached_input: optional(long.cached_input)?,
                cache_write: optional(long.cache_write)?,
                output: at(long.output)?,
            },
            batch: some_rates(&long.batch)?,
        }),
    };
    let batch = some_rates(&raw.batch)?;
    Ok(Model {
        id: raw.id.to_ascii_lowercase(),
        provider: raw.provider,
        name: raw.name,
        context_window: raw.context_window,
        also: raw
            .also
            .iter()
            .map(|name| name.to_ascii_lowercase())
            .collect(),
        rates,
        batch,
        long,
    })
}

/// Dollars per million tokens as pico-dollars per token.
fn pico(price: f64, id: &str) -> Result<i64, Error> {
    if !price.is_finite() || !(0.0..=100_000.0).contains(&price) {
        return Err(unreadable(&format!(
            "a price of \"{id}\" is not from 0 to 100,000"
        )));
    }
    Ok((price * 1e6).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_list_has_a_source_a_date_and_its_default_models() {
        let list = PriceList::built_in().unwrap();
        let described = list.describe();
        assert!(
            described["source"]
                .as_str()
                .unwrap()
                .contains("genai-prices")
        );
        assert!(
            described["date"]
                .as_str()
                .unwrap()
                .parse::<jiff::civil::Date>()
                .is_ok()
        );
        assert!(list.models.len() > 100);
        assert!(!list.default_models.is_empty());
        for name in &list.default_models {
            assert_eq!(list.find(name).unwrap().id, *name);
        }
    }

    #[test]
    fn names_as_logs_write_them() {
        let text = r#"
            name = "test"
            [[model]]
            id = "gpt-4o"
            provider = "openai"
            input = 2.5
            output = 10
            [[model]]
            id = "gpt-4o-mini"
            provider = "openai"
            also = ["gpt-4o-mini-*"]
            input = 0.15
            cached_input = 0.075
            output = 0.6
            [[model]]
            id = "gpt-4"
            also = ["gpt-4-0613"]
            input = 30
            output = 60
        "#;
        let list = PriceList::parse(text, "argument").unwrap();
        for (name, id) in [
            ("GPT-4", Some("gpt-4")),
            ("gpt-4-0613", Some("gpt-4")),
            ("openai/gpt-4o", Some("gpt-4o")),
            ("azure/eu/gpt-4o-2024-08-06", Some("gpt-4o")),
            ("gpt-4o-20240806", Some("gpt-4o")),
            ("gpt-4o-mini-2024-07-18", Some("gpt-4o-mini")),
            ("gpt-4o-mini-custom", Some("gpt-4o-mini")),
            ("gpt-4o-something", None),
            ("ChatGPT", None),
            ("", None),
        ] {
            assert_eq!(list.find(name).map(|m| m.id.as_str()), id, "{name}");
        }
        let mini = list.find("gpt-4o-mini").unwrap();
        assert_eq!(
            (mini.rates.input, mini.rates.cached_input),
            (150_000, Some(75_000))
        );
        assert!(
            list.require("gpt-9")
                .unwrap_err()
                .to_string()
                .contains("gpt-4o")
        );
    }

    #[test]
    fn a_list_over_another_comes_first_and_leaves_it_the_rest() {
        let list = |name: &str, input: u32, ids: &[&str]| {
            let models: Vec<Value> = ids
                .iter()
                .map(|id| json!({"id": id, "provider": "p", "input": input, "output": 1}))
                .collect();
            let text = json!({"name": name, "date": "2026-11-01", "models": models}).to_string();
            PriceList::parse(&text, "argument").unwrap()
        };
        let both = list("own", 1, &["a"]).over(list("base", 2, &["a", "b", "a-2026-01-02"]));
        for (name, input, of) in [
            ("a", 1, "own"),
            ("b", 2, "base"),
            ("a-2026-01-02", 1, "own"),
        ] {
            let (model, found_in) = both.find_of("p", name).unwrap();
            assert_eq!(
                (model.rates.input, &*found_in.name),
                (input * 1_000_000, of),
                "{name}"
            );
            assert_eq!(
                both.find(name).unwrap().rates.input,
                input * 1_000_000,
                "{name}"
            );
        }
        assert!(both.find_of("q", "a").is_none());
        assert_eq!(both.title(), "own (2026-11-01, argument)");
        assert_eq!(both.title_for_users(), "own (2026-11-01, the server's)");
        let built_in = PriceList::built_in().unwrap();
        assert_eq!(built_in.title_for_users(), built_in.title());
        assert_eq!(both.describe()["others"]["name"], "base");
        assert!(both.assumption().contains("else by base (2026-11-01"));
    }

    #[test]
    fn broken_lists_are_refused_with_the_reason() {
        for (text, says) in [
            ("", "name"),
            ("name = 'x'", "no model"),
            (
                "{\"name\": \"x\", \"models\": [{\"id\": \"a\", \"input\": -1, \"output\": 1}]}",
                "\"a\"",
            ),
            ("name = 'x'\ncurrency = 'EUR'", "USD"),
            (
                "name = 'x'\n[[model]]\nid = 'a'\ninput = 1\noutptu = 2",
                "outptu",
            ),
        ] {
            let error = PriceList::parse(text, "argument").unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
