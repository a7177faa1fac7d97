//! The secrets that an instance of a tool server is given: opened for it, compared, and taken out of what is told of it.

use std::collections::BTreeMap;

use netra_context::{Secret, UserExecutionContext};
use netra_protocol::error::Failure;
use netra_protocol::tool::SecretUse;
use netra_store::secret::ServerSecrets;
use netra_store::{Error, Secrets};
use netra_tools::{Call, Redaction};
use zeroize::Zeroizing;

use crate::server::Server;

/// Secrets by their names.
#[derive(Clone, Default)]
pub(crate) struct Opened(BTreeMap<String, Secret>);

impl Opened {
    /// For a call: what comes back is searched for them, and the audit names them.
    pub(crate) async fn for_call(server: &Server, call: &Call<'_>) -> Result<Self, Failure> {
        let mut opened = Self::default();
        for (name, place) in server.secrets() {
            let secret = call.secret(name, place).await?;
            opened.0.insert(name.to_owned(), secret);
        }
        Ok(opened)
    }

    /// For what is asked for a user outside of a call.
    ///
    /// # Errors
    /// In words, where one cannot be opened.
    pub(crate) async fn for_user(
        server: &Server,
        ctx: &UserExecutionContext,
        secrets: &Secrets,
    ) -> Result<Self, String> {
        let mut opened = Self::default();
        for (name, place) in server.secrets() {
            let secret = secrets.reveal(ctx, name, place).await;
            let secret = secret.map_err(|error| refused(name, place, &error))?;
            opened.0.insert(name.to_owned(), secret);
        }
        Ok(opened)
    }

    /// Of the server's own, for nobody.
    ///
    /// # Errors
    /// In words, where one cannot be opened.
    pub(crate) fn for_nobody(server: &Server, secrets: &ServerSecrets) -> Result<Self, String> {
        let open = |(name, place): (&str, &str)| {
            let secret = secrets.reveal(name, place);
            let secret = secret.map_err(|error| refused(name, place, &error))?;
            Ok((name.to_owned(), secret))
        };
        server
            .secrets()
            .map(open)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether an instance that has these need not be replaced by one with those.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        let texts = |opened: &Self| -> Vec<_> {
            let pair = |(name, secret): (&String, &Secret)| {
                (name.clone(), Zeroizing::new(secret.expose().to_owned()))
            };
            opened.0.iter().map(pair).collect()
        };
        texts(self) == texts(other)
    }

    /// Takes them out of what is told.
    pub(crate) fn redaction(&self) -> Redaction {
        let redaction = Redaction::default();
        for (name, secret) in &self.0 {
            redaction.add(name, secret);
        }
        redaction
    }

    /// The text that is to stand where the secret is named.
    pub(crate) fn text(&self, used: &SecretUse) -> Result<Zeroizing<String>, String> {
        let secret = self.0.get(&used.secret);
        let secret =
            secret.ok_or_else(|| format!("the secret {:?} was not opened", used.secret))?;
        Ok(Zeroizing::new(format!(
            "{}{}",
            used.prefix,
            secret.expose()
        )))
    }
}

fn refused(name: &str, place: &str, error: &Error) -> String {
    match error {
        Error::NotFound => format!("there is no secret {name:?} for {place}"),
        Error::Conflict(_) => format!("the secret {name:?} is not for {place}"),
        error => format!("the secret {name:?} cannot be opened: {error}"),
    }
}
