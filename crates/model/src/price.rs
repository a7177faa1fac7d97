//! What a call may come to before it is made: tokens of a request, and what tokens cost.

use std::io::{self, Write};

use netra_prices::Tariff;

use crate::ChatRequest;

/// No usual tokenizer makes more tokens of a text than one for so many bytes, of any script, but for digits and
/// other lists of signs.
pub const BYTES_PER_TOKEN: u64 = 3;

/// What providers reckon a picture with, at its largest.
const TOKENS_PER_IMAGE: u64 = 2_000;

/// What a model costs, in US dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    /// Tokens of the request.
    pub input_usd: f64,
    /// Tokens of the answer.
    pub output_usd: f64,
}

impl From<&Tariff> for Price {
    fn from(tariff: &Tariff) -> Self {
        let most = tariff.most_per_million();
        Self {
            input_usd: most.input,
            output_usd: most.output,
        }
    }
}

impl Price {
    /// The price of so many tokens in US dollars.
    pub fn of(&self, input_tokens: u64, output_tokens: u64) -> f64 {
        (input_tokens as f64 * self.input_usd + output_tokens as f64 * self.output_usd) / 1e6
    }
}

/// About how many tokens a request has: rather too many than too few.
pub fn tokens_of(request: &ChatRequest) -> u64 {
    let images = request.images().count() as u64;
    tokens_in(bytes_of(request)) + images * TOKENS_PER_IMAGE
}

/// The size of a request as JSON, without its pictures, which copies share.
pub(crate) fn bytes_of(request: &ChatRequest) -> u64 {
    let mut counter = Counter(0);
    // Neither the counter nor a request can fail to be written; what was counted is the answer.
    serde_json::to_writer(&mut counter, request).ok();
    let images: usize = request.images().map(|image| image.base64.len()).sum();
    counter.0.saturating_sub(images as u64)
}

/// About how many tokens a text of so many bytes has.
pub fn tokens_in(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}

struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Image, Message};

    #[test]
    fn a_price_is_per_million_and_by_direction() {
        let price = Price {
            input_usd: 2.0,
            output_usd: 10.0,
        };
        assert_eq!(price.of(500_000, 100_000), 2.0);
        assert_eq!(price.of(0, 0), 0.0);
    }

    #[test]
    fn a_longer_request_has_more_tokens() {
        let tokens = |text: &str| {
            tokens_of(&ChatRequest {
                messages: vec![Message::user(text)],
                ..ChatRequest::default()
            })
        };
        let (short, long) = (tokens("hello"), tokens(&"hello ".repeat(100)));
        assert!(long >= short + 190, "{short} {long}");
    }

    #[test]
    fn a_picture_has_tokens_by_its_number_not_by_its_bytes() {
        let tokens = |bytes: usize| {
            let image = Image {
                media_type: "image/png".into(),
                base64: "x".repeat(bytes).into(),
            };
            tokens_of(&ChatRequest {
                messages: vec![Message::User {
                    text: "what is this?".into(),
                    images: vec![image],
                }],
                ..ChatRequest::default()
            })
        };
        assert_eq!(tokens(10), tokens(1_000_000));
        assert!(tokens(10) > TOKENS_PER_IMAGE);
    }
}
