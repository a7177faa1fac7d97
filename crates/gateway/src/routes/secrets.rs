//! Secrets that tools need on the user's behalf: values go in and never come back.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use netra_context::Secret;
use netra_protocol::secret::{PutSecret, SecretInfo};
use netra_store::secret::{MIN_SECRET_BYTES, NewSecret, is_place, is_secret_name};

use crate::error::Error;
use crate::extract::{Caller, Id};
use crate::json::Payload;
use crate::state::Gateway;

const MAX_BYTES: usize = 16 * 1024;
const MAX_HOSTS: usize = 20;

/// Tells about a secret
///
/// Its name and the hosts that it may go to; never its value.
#[utoipa::path(get, path = "/api/secrets/{name}", tag = "accounts", operation_id = "secret_get",
    params(("name" = String, Path, description = "The secret")),
    responses((status = 200, description = "The secret, without its value", body = SecretInfo)))]
pub(crate) async fn secret_get(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(name): Id<String>,
) -> Result<Answer<SecretInfo>, Error> {
    let found = gateway.secrets.find(&caller.ctx, name).for_write().await?;
    Ok(Answer((*found).clone()))
}

/// Keeps a secret
///
/// In place of the one that had the name, with its hosts. It is stored encrypted, and tools send it to
/// these hosts only.
#[utoipa::path(put, path = "/api/secrets/{name}", tag = "accounts", operation_id = "secret_put",
    params(("name" = String, Path, description = "1 to 64 letters, digits, `.`, `_` or `-`",
        pattern = "^[A-Za-z0-9._-]{1,64}$")),
    request_body = PutSecret,
    responses((status = 200, description = "The secret, without its value", body = SecretInfo)))]
pub(crate) async fn secret_put(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(name): Id<String>,
    body: Payload,
) -> Result<Answer<SecretInfo>, Error> {
    let body: PutSecret = body.read().await?;
    let value = Secret::new(body.value);
    check(&name, value.expose(), &body.hosts)?;
    let new = NewSecret {
        name,
        value,
        places: body.hosts,
    };
    Ok(Answer(gateway.secrets.put(&caller.ctx, new).await?))
}

fn check(name: &str, value: &str, hosts: &[String]) -> Result<(), Error> {
    if !is_secret_name(name) {
        let message = "A secret's name has 1 to 64 letters, digits, `.`, `_` or `-`.";
        return Err(Error::invalid(message).breaks("name", "pattern ^[A-Za-z0-9._-]{1,64}$"));
    }
    let broken = match value.len() {
        ..MIN_SECRET_BYTES => Some("minBytes 8"),
        MIN_SECRET_BYTES..=MAX_BYTES => {
            let controls = value.chars().any(char::is_control);
            controls.then_some(r"pattern ^[^\x00-\x1f\x7f-\x9f]*$")
        }
        _ => Some("maxBytes 16384"),
    };
    if let Some(rule) = broken {
        let message = "`value` has 8 to 16384 bytes, none of them a control character.";
        return Err(Error::invalid(message).breaks("value", rule));
    }
    let bad = hosts.iter().position(|host| !is_place(host));
    if hosts.len() > MAX_HOSTS || bad.is_some() {
        let message = "`hosts` are at most 20 hosts in lower case, such as `api.example.com`, with a port where it \
                       is not 443.";
        let refused = Error::invalid(message);
        return Err(match bad {
            Some(place) => refused.breaks(&format!("hosts[{place}]"), "host"),
            None => refused.breaks("hosts", "maxItems 20"),
        });
    }
    Ok(())
}

/// Deletes a secret
#[utoipa::path(delete, path = "/api/secrets/{name}", tag = "accounts",
    operation_id = "secret_delete", params(("name" = String, Path, description = "The secret")),
    responses((status = 204, description = "Deleted")))]
pub(crate) async fn secret_delete(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(name): Id<String>,
) -> Result<StatusCode, Error> {
    let found = gateway.secrets.find(&caller.ctx, name).for_write().await?;
    gateway.secrets.delete(&caller.ctx, found).await?;
    Ok(StatusCode::NO_CONTENT)
}
