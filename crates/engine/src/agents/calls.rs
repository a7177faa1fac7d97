//! How an agent's calls of models are made, as its file says: what they may come to, and who answers them.

use std::time::Duration;

use netra_context::duration;
use netra_model::{ModelRef, Models};
use netra_store::Bound;
use toml::Spanned;

use super::manifest::{Flaw, Manifest, Text};

/// How an agent's calls of models are made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Calls {
    /// What the calls of a run may come to that begins with this agent.
    pub budget: Bound,
    /// Who answers where the agent's model does not, in order; the server's list when absent.
    pub fallback: Option<Vec<ModelRef>>,
    /// How long an answer is given again to the same user for the same request; never when absent.
    pub cache: Option<Duration>,
}

impl Calls {
    pub(super) fn read(text: &Text, manifest: &Manifest) -> Result<Self, Flaw> {
        let fallback = manifest.fallback.as_ref().map(|names| {
            let names = names.iter();
            names.map(|name| reference(text, name)).collect()
        });
        let cache = manifest.cache.as_ref().map(|time| {
            let read = duration::parse(time.get_ref());
            read.map_err(|problem| text.flaw(time.span(), problem))
        });
        let usd = manifest.run_budget_usd.as_ref();
        if let Some(usd) = usd.filter(|usd| !usd.get_ref().is_finite() || *usd.get_ref() < 0.0) {
            return Err(text.flaw(usd.span(), "a budget is 0 or more"));
        }
        Ok(Self {
            budget: Bound::new(manifest.run_budget_tokens, usd.map(|usd| *usd.get_ref())),
            fallback: fallback.transpose()?,
            cache: cache.transpose()?,
        })
    }

    /// The models that are asked, the agent's own first.
    pub(crate) fn models(&self, own: &ModelRef, models: &Models) -> Vec<ModelRef> {
        let others = self.fallback.as_deref().unwrap_or(models.fallback());
        let mut all = vec![own.clone()];
        for other in others {
            if !all.contains(other) {
                all.push(other.clone());
            }
        }
        all
    }
}

fn reference(text: &Text, name: &Spanned<String>) -> Result<ModelRef, Flaw> {
    let read = name.get_ref().parse::<ModelRef>();
    read.map_err(|error| text.flaw(name.span(), error.to_string()))
}
