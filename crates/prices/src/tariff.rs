//! What one call costs.

use crate::{LongContext, Model, Rates, per_million};

/// Pico-dollars of a dollar.
const DOLLAR: f64 = 1e12;

/// The prices of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tariff {
    rates: Rates,
    long: Option<LongContext>,
}

/// The tokens of one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Call {
    /// All of the request.
    pub input: u64,
    /// The part of `input` that was read from the provider's cache.
    pub cached: u64,
    /// The part of `input` that was written to it.
    pub cache_write: u64,
    /// All of the answer.
    pub output: u64,
}

/// Prices in US dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PerMillion {
    /// Of requests.
    pub input: f64,
    /// Of the part of requests that the provider had in its cache.
    pub cached_input: Option<f64>,
    /// Of answers.
    pub output: f64,
}

impl Model {
    /// What a call of the model costs.
    pub fn tariff(&self) -> Tariff {
        Tariff {
            rates: self.rates,
            long: self.long,
        }
    }
}

impl Tariff {
    /// The prices as lists write them, for prompts of usual length.
    pub fn per_million(&self) -> PerMillion {
        PerMillion {
            input: per_million(self.rates.input),
            cached_input: self.rates.cached_input.map(per_million),
            output: per_million(self.rates.output),
        }
    }

    /// The most that tokens cost, whatever the length of the prompt, and whatever of it is written to a cache.
    pub fn most_per_million(&self) -> PerMillion {
        let all = [Some(self.rates), self.long.map(|long| long.rates)];
        let all = || all.into_iter().flatten();
        let input = |rates: Rates| rates.input.max(rates.cache_write.unwrap_or(0));
        PerMillion {
            input: per_million(all().map(input).max().unwrap_or(0)),
            cached_input: None,
            output: per_million(all().map(|rates| rates.output).max().unwrap_or(0)),
        }
    }

    /// The price of a call in US dollars; none where the list has no price for a part of it.
    pub fn cost_usd(&self, call: Call) -> Option<f64> {
        let is_long = |long: &LongContext| call.input > u64::from(long.above);
        let rates = self
            .long
            .filter(is_long)
            .map_or(self.rates, |long| long.rates);
        // Without a price of their own, cached tokens are billed like others.
        let cached = rates.cached_input.unwrap_or(rates.input);
        let written = match call.cache_write {
            0 => 0,
            _ => rates.cache_write?,
        };
        let fresh = call.input.checked_sub(call.cached)?;
        let fresh = fresh.checked_sub(call.cache_write)?;
        let parts = [
            (fresh, rates.input),
            (call.cached, cached),
            (call.cache_write, written),
            (call.output, rates.output),
        ];
        let price = |(tokens, pico): &(u64, i64)| i128::from(*tokens) * i128::from(*pico);
        let pico: i128 = parts.iter().map(price).sum();
        Some(pico as f64 / DOLLAR)
    }
}

#[cfg(test)]
mod tests {
    use crate::PriceList;

    use super::*;

    const LIST: &str = r#"
        name = "test"
        [[model]]
        id = "m"
        provider = "maker"
        input = 2
        cached_input = 0.5
        output = 10
        long_context = { above = 1000, input = 4, output = 20 }
        [[model]]
        id = "m"
        provider = "other"
        input = 1
        cache_write = 1.25
        output = 1
    "#;

    fn cost(provider: &str, input: u64, cached: u64, cache_write: u64, output: u64) -> Option<f64> {
        let list = PriceList::parse(LIST, "argument").unwrap();
        let call = Call {
            input,
            cached,
            cache_write,
            output,
        };
        let model = list.find_of(provider, "M-2026-01-02");
        model.and_then(|(model, _)| model.tariff().cost_usd(call))
    }

    #[test]
    fn the_most_that_tokens_cost() {
        let list = PriceList::parse(LIST, "argument").unwrap();
        let most = |provider: &str| {
            let most = list
                .find_of(provider, "m")
                .unwrap()
                .0
                .tariff()
                .most_per_million();
            (most.input, most.output)
        };
        assert_eq!(most("maker"), (4.0, 20.0));
        assert_eq!(most("other"), (1.25, 1.0));
    }

    #[test]
    fn each_part_has_its_price_and_a_missing_one_is_no_price() {
        assert_eq!(cost("maker", 1000, 400, 0, 100), Some(0.0024));
        assert_eq!(cost("maker", 1001, 1, 0, 0), Some(0.004_004));
        assert_eq!(cost("maker", 100, 0, 1, 0), None);
        assert_eq!(cost("maker", 100, 101, 0, 0), None);
        assert_eq!(cost("other", 100, 20, 40, 0), Some(0.000_11));
        assert_eq!(cost("nobody", 1, 0, 0, 1), None);
    }
}
