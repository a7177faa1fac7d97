//! The provider that a configuration describes.

use std::cell::LazyCell;
use std::sync::Arc;

use netra_prices::PriceList;

use crate::anthropic::Messages;
use crate::gemini::GenerateContent;
use crate::openai::ChatCompletions;
use crate::remote::{Prices, Remote};
use crate::{Error, Kind, Provider, ProviderConfig};

/// The price list, read when the first provider needs it.
pub(crate) type Listed =
    LazyCell<Option<Arc<PriceList>>, Box<dyn FnOnce() -> Option<Arc<PriceList>>>>;

/// The provider of a configuration.
pub(crate) fn provider(
    name: &str,
    config: ProviderConfig,
    list: &Listed,
) -> Result<Arc<dyn Provider>, Error> {
    let prices = |known: Option<&'static str>| {
        let provider = config.prices.clone().or(known.map(str::to_owned))?;
        let list = Option::clone(list)?;
        Some(Prices { list, provider })
    };
    Ok(match config.kind {
        Kind::Openai | Kind::Azure | Kind::Ollama => {
            let wire = ChatCompletions::new(name, &config)?;
            let prices = prices(wire.prices());
            Arc::new(Remote::new(name, config, wire, prices)?)
        }
        Kind::Anthropic => {
            let wire = Messages::new(name, &config)?;
            let prices = prices(wire.prices());
            Arc::new(Remote::new(name, config, wire, prices)?)
        }
        Kind::Gemini => {
            let wire = GenerateContent::new(name, &config)?;
            let prices = prices(wire.prices());
            Arc::new(Remote::new(name, config, wire, prices)?)
        }
    })
}
