//! Users' own keys: secrets with the name `model_` and the provider's, bound to the provider's host.

use std::collections::BTreeSet;

use netra_context::{Secret, UserExecutionContext};
use netra_store::Secrets;

use crate::{Error, Provider};

/// Where users' keys are looked for, and for which providers.
#[derive(Default)]
pub(crate) struct OwnKeys {
    secrets: Option<Secrets>,
    allowed: BTreeSet<String>,
}

impl OwnKeys {
    pub(crate) fn look_in(&mut self, secrets: Secrets) {
        self.secrets = Some(secrets);
    }

    /// From now on a user's key is sent to this provider.
    pub(crate) fn allow(&mut self, provider: &str) {
        self.allowed.insert(provider.to_owned());
    }

    /// Whether a user's key would be sent to this provider.
    pub(crate) fn may_be_for(&self, provider: &dyn Provider) -> bool {
        self.allowed.contains(provider.name()) && provider.place().is_some()
    }

    /// The key of the user; none where the user has none, or it is not to be used.
    pub(crate) async fn of(
        &self,
        ctx: &UserExecutionContext,
        provider: &dyn Provider,
    ) -> Result<Option<Secret>, Error> {
        let Some((secrets, name, place)) = self.sought(ctx, provider) else {
            return Ok(None);
        };
        match secrets.reveal(ctx, &name, &place).await {
            Ok(key) => Ok(Some(key)),
            Err(netra_store::Error::NotFound) => Ok(None),
            Err(netra_store::Error::Conflict(_)) => Err(Error::NotConfigured(format!(
                "the secret {name} is not bound to {place}, where the model provider {} is",
                provider.name()
            ))),
            Err(error) => Err(Error::Unavailable {
                provider: provider.name().to_owned(),
                reason: format!("the user's own key cannot be read: {error}"),
                sent: false,
            }),
        }
    }

    /// Whether the user has one.
    pub(crate) async fn has(
        &self,
        ctx: &UserExecutionContext,
        provider: &dyn Provider,
    ) -> Result<bool, netra_store::Error> {
        match self.sought(ctx, provider) {
            Some((secrets, name, place)) => secrets.has(ctx, &name, &place).await,
            None => Ok(false),
        }
    }

    /// Where to look, for what, bound to where.
    fn sought(
        &self,
        ctx: &UserExecutionContext,
        provider: &dyn Provider,
    ) -> Option<(&Secrets, String, String)> {
        ctx.user_id()?;
        let name = provider.name();
        let secrets = self
            .secrets
            .as_ref()
            .filter(|_| self.allowed.contains(name))?;
        Some((secrets, format!("model_{name}"), provider.place()?))
    }
}
