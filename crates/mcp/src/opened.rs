//! The secrets that an instance of a tool server is given: opened for it, compared, and taken out of what is told of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use netra_context::{Secret, UserExecutionContext};
use netra_protocol::error::Failure;
use netra_protocol::tool::SecretUse;
use netra_store::secret::ServerSecrets;
use netra_store::{Error, Secrets};
use netra_tools::{Call, Redaction};
use zeroize::Zeroizing;

use crate::server::Server;

/// What an instance is given.
#[derive(Clone, Default)]
pub(crate) struct Opened {
    /// Secrets by their names.
    secrets: BTreeMap<String, Secret>,
    /// What stands in the configuration, and is not to be seen either.
    plain: Arc<[(String, Secret)]>,
}

impl Opened {
    fn nothing(server: &Server) -> Self {
        Self {
            secrets: BTreeMap::new(),
            plain: server.plain(),
        }
    }

    /// For a call: what comes back is searched for them, and the audit names them.
    pub(crate) async fn for_call(server: &Server, call: &Call<'_>) -> Result<Self, Failure> {
        let mut opened = Self::nothing(server);
        for (name, place) in server.secrets() {
            let secret = call.secret(name, place).await?;
            opened.secrets.insert(name.to_owned(), secret);
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
        let mut opened = Self::nothing(server);
        for (name, place) in server.secrets() {
            let secret = secrets.reveal(ctx, name, place).await;
            let secret = secret.map_err(|error| refused(name, place, &error))?;
            opened.secrets.insert(name.to_owned(), secret);
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
            Ok::<_, String>((name.to_owned(), secret))
        };
        let secrets = server.secrets().map(open);
        Ok(Self {
            secrets: secrets.collect::<Result<_, _>>()?,
            ..Self::nothing(server)
        })
    }

    /// Whether an instance that has these need not be replaced by one with those.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        let text = |(name, secret)| (name, Secret::expose(secret));
        let others = other.secrets.iter().map(text);
        self.secrets.iter().map(text).eq(others)
    }

    /// Takes them out of what is told.
    pub(crate) fn redaction(&self) -> Redaction {
        let redaction = Redaction::default();
        let plain = self.plain.iter().map(|(name, value)| (name, value));
        for (name, secret) in self.secrets.iter().chain(plain) {
            redaction.add(name, secret);
        }
        redaction
    }

    /// The text that is to stand where the secret is named.
    pub(crate) fn text(&self, used: &SecretUse) -> Result<Zeroizing<String>, String> {
        let secret = self.secrets.get(&used.secret);
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
