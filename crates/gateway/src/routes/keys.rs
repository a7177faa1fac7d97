//! API keys: for programs, with a part of their maker's rights.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use netra_context::Rights;
use netra_protocol::Page;
use netra_protocol::account::{CreateKey, Key, SCOPES};
use netra_protocol::id::KeyId;
use netra_store::{Grant, NewKey};

use crate::auth::secret_text;
use crate::auth::verifier::{API_KEY, Revoked};
use crate::cursor::List;
use crate::error::Error;
use crate::extract::{Caller, Id, IdempotencyKey, Paging};
use crate::json::Payload;
use crate::state::Gateway;

/// The longest name of a key, in characters.
const MAX_NAME_CHARS: usize = 100;

/// As the document has it.
const NAME_RULE: &str =
    r"pattern ^[^\x00-\x1f\x7f-\x9f]*[^\x00-\x20\x7f-\xa0][^\x00-\x1f\x7f-\x9f]*$";

fn check_name(name: &str) -> Result<(), Error> {
    let rule = if name.chars().count() > MAX_NAME_CHARS {
        "maxLength 100"
    } else if name.trim().is_empty() || name.chars().any(char::is_control) {
        NAME_RULE
    } else {
        return Ok(());
    };
    let message = "`name` has 1 to 100 characters, none of them a control character.";
    Err(Error::invalid(message).breaks("name", rule))
}

/// The rights that are asked for. That the maker has them is the store's to see.
fn read_scopes(scopes: &[String]) -> Result<Rights, Error> {
    match Rights::from_names(scopes.iter().map(String::as_str)) {
        Ok(Rights::NONE) => {
            let message = "`scopes` names at least one scope.";
            Err(Error::invalid(message).breaks("scopes", "minItems 1"))
        }
        Ok(rights) => Ok(rights),
        Err(unknown) => {
            let place = scopes.iter().position(|scope| scope == unknown);
            let field = format!("scopes[{}]", place.unwrap_or_default());
            let message = "`scopes` are `read`, `run`, `files`, `account`, `approve`, `admin`, `metrics` or `service`.";
            let rule = format!("enum {}", SCOPES.join(", "));
            Err(Error::invalid(message).breaks(&field, &rule))
        }
    }
}

/// What a service token can do ends with it: a key that it made for an end user would not.
fn refuse_service(caller: &Caller) -> Result<(), Error> {
    match caller.verified.grant {
        Grant::Service { .. } => Err(Error::new(
            netra_protocol::ErrorCode::Forbidden,
            "A service token makes no API keys.",
        )),
        _ => Ok(()),
    }
}

/// A key ends in the future, and no later than the key that makes it.
fn check_end(gateway: &Gateway, caller: &Caller, body: &CreateKey) -> Result<(), Error> {
    let end = body.expires_at;
    if end.is_some_and(|end| end <= gateway.runtime.now()) {
        let message = "`expires_at` is in the future.";
        return Err(Error::invalid(message).breaks("expires_at", "future"));
    }
    let verified = &caller.verified;
    match (verified.grant, verified.expires_at) {
        (Grant::Key(_), Some(makers)) if end.is_none_or(|end| end > makers) => Err(Error::new(
            netra_protocol::ErrorCode::Forbidden,
            "A key that an API key makes ends no later than that key.",
        )),
        _ => Ok(()),
    }
}

/// Makes an API key
///
/// Its secret is in this answer and nowhere else: a repetition with the same `Idempotency-Key`
/// gives the key without it. Scopes that its maker lacks are refused with 403.
#[utoipa::path(post, path = "/api/keys", tag = "accounts", operation_id = "key_create",
    request_body = CreateKey,
    responses((status = 201, description = "The key, with its secret", body = Key)))]
pub(crate) async fn key_create(
    State(gateway): State<Gateway>,
    caller: Caller,
    idempotency: IdempotencyKey,
    body: Payload,
) -> Result<(StatusCode, Answer<Key>), Error> {
    refuse_service(&caller)?;
    let body: CreateKey = body.read().await?;
    let idempotency = idempotency.of("key_create", &body)?;
    check_name(&body.name)?;
    let rights = read_scopes(&body.scopes)?;
    check_end(&gateway, &caller, &body)?;
    let secret = secret_text(&gateway.runtime.secret_bytes::<32>());
    let secret = format!("{API_KEY}{secret}");
    let new = NewKey {
        name: body.name,
        rights,
        expires_at: body.expires_at,
        hash: gateway.keys.hash_of_api_key(&secret),
    };
    let store = &gateway.store;
    let created = store.key_create(&caller.ctx, new, idempotency.as_ref());
    let created = created.await?;
    let mut key = created.value;
    key.secret = (!created.replayed).then_some(secret);
    Ok((StatusCode::CREATED, Answer(key)))
}

/// Lists the user's API keys
///
/// Newest first, those past their end too; without their secrets.
#[utoipa::path(get, path = "/api/keys", tag = "accounts", operation_id = "key_list",
    params(Paging), responses((status = 200, description = "Keys", body = Page<Key>)))]
pub(crate) async fn key_list(
    State(gateway): State<Gateway>,
    caller: Caller<Paging>,
    list: List,
) -> Result<Answer<Page<Key>>, Error> {
    let limit = caller.query.limit()?;
    let from = list.position(caller.query.cursor.as_ref())?;
    let page = gateway.store.keys(&caller.ctx, limit, from.as_deref());
    Ok(list.answer(page.await?))
}

/// Revokes an API key
///
/// It is refused, and its sockets and streams are closed, from now on.
#[utoipa::path(delete, path = "/api/keys/{id}", tag = "accounts", operation_id = "key_delete",
    params(("id" = KeyId, Path, description = "The key")),
    responses((status = 204, description = "Revoked")))]
pub(crate) async fn key_delete(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<KeyId>,
) -> Result<StatusCode, Error> {
    let key = gateway.store.key(&caller.ctx, id).for_write().await?;
    gateway.store.key_delete(&caller.ctx, &key).await?;
    gateway.verifier.revoke(Revoked::Key(id));
    Ok(StatusCode::NO_CONTENT)
}
