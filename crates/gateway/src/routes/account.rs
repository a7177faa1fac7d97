//! Accounts: set-up, registration, signing in and on and out.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use netra_protocol::ErrorCode;
use netra_protocol::account::{
    Login, Plan, Refresh, Register, Reset, Role, Setup, Ticket, Tokens, User, is_user_name,
};
use netra_protocol::frame::Empty;
use netra_store::{Counted, Grant, NewUser, TicketOwner};
use sha2::{Digest as _, Sha256};

use crate::address::{Peer, counted};
use crate::auth::verifier::{Presented, Revoked};
use crate::auth::{cookie, origin, secret_hash, secret_text, session, setup};
use crate::config::Registration;
use crate::cors;
use crate::error::Error;
use crate::extract::{Caller, Visitor};
use crate::json::Payload;
use crate::layers::presented;
use crate::state::Gateway;

/// Counts a sign-in of this account from this address.
pub(crate) async fn throttle(
    gateway: &Gateway,
    name: &str,
    visitor: &Visitor,
) -> Result<(), Error> {
    let mut key = Sha256::new();
    key.update(name.to_lowercase());
    key.update([0]);
    key.update(visitor.peer.map_or(0, counted).to_be_bytes());
    let limit = gateway.config.logins_per_minute.get();
    let (store, now) = (&gateway.store, gateway.runtime.now());
    let key: [u8; 32] = key.finalize().into();
    let counted = (key, Counted::SignIns(key));
    let verdict = gateway.logins.count(store, counted, limit, now).await;
    if verdict.allowed {
        Ok(())
    } else {
        Err(verdict.refusal())
    }
}

/// As the document has it.
const NAME_RULE: &str = "pattern ^(?![uU][sS][rR]_)[A-Za-z0-9._@-]{1,64}$";

pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    if is_user_name(name) {
        return Ok(());
    }
    let message = "A name has 1 to 64 letters (a to z), digits, `.`, `_`, `-` or `@`.";
    Err(Error::invalid(message).breaks("name", NAME_RULE))
}

fn is_secure(gateway: &Gateway, visitor: &Visitor) -> bool {
    origin::is_secure(&gateway.config, &visitor.headers)
}

/// Whether a page of another origin asks, which holds its tokens itself.
fn is_other_page(gateway: &Gateway, visitor: &Visitor) -> bool {
    cors::listed(&gateway.config, &visitor.headers, &visitor.uri).is_some()
}

/// The refresh token of the browser's cookie, for the server's own page.
fn kept(gateway: &Gateway, visitor: &Visitor) -> Option<String> {
    let cookie = cookie::read(&visitor.headers);
    cookie.filter(|_| !is_other_page(gateway, visitor))
}

/// The tokens, in a cookie too where a browser asks.
fn signed_in(gateway: &Gateway, visitor: &Visitor, status: StatusCode, tokens: Tokens) -> Response {
    let own_page = origin::from_browser(&visitor.headers) && !is_other_page(gateway, visitor);
    let keep = own_page.then(|| {
        let life = gateway.config.refresh_ttl;
        cookie::keep(&tokens.refresh_token, life, is_secure(gateway, visitor))
    });
    with_cookie((status, Answer(tokens)).into_response(), keep.flatten())
}

fn with_cookie(mut response: Response, cookie: Option<HeaderValue>) -> Response {
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// Makes the first admin
///
/// With the one-time token of the set-up link that the server prints while it has no users.
#[utoipa::path(post, path = "/api/auth/setup", tag = "accounts", operation_id = "account_setup",
    request_body = Setup, responses((status = 201, description = "Signed in", body = Tokens)),
    security(()))]
pub(crate) async fn setup(
    State(gateway): State<Gateway>,
    visitor: Visitor,
    body: Payload,
) -> Result<Response, Error> {
    let Setup {
        token,
        name,
        password,
    } = body.read().await?;
    throttle(&gateway, "", &visitor).await?;
    setup::check(&gateway, &token).await?;
    check_name(&name)?;
    let hash = gateway.passwords.hash(password, &name).await?;
    let new = NewUser {
        name,
        role: Role::Admin,
        plan: Plan::Enterprise,
        password_hash: Some(hash),
    };
    let user = gateway
        .store
        .user_create_first(&session::looking_up(&gateway), new)
        .await?;
    setup::used(&gateway).await?;
    let tokens = session::begin(&gateway, user).await?;
    Ok(signed_in(&gateway, &visitor, StatusCode::CREATED, tokens))
}

/// Makes an account
///
/// Where the server's registration is open, or with an invitation that is still good; else 403.
#[utoipa::path(post, path = "/api/auth/register", tag = "accounts",
    operation_id = "account_register", request_body = Register,
    responses((status = 201, description = "Signed in", body = Tokens)), security(()))]
pub(crate) async fn register(
    State(gateway): State<Gateway>,
    visitor: Visitor,
    body: Payload,
) -> Result<Response, Error> {
    let Register {
        name,
        password,
        invite,
    } = body.read().await?;
    // Before the count, which would keep a name for each of such requests.
    let invite = admitted(&gateway, invite)?;
    throttle(&gateway, &name, &visitor).await?;
    let looking_up = session::looking_up(&gateway);
    if let Some(invite) = invite {
        let known = gateway.store.invite_by_hash(&looking_up, invite).await?;
        known.ok_or_else(not_invited)?;
    }
    check_name(&name)?;
    if name.eq_ignore_ascii_case(session::DEV_USER) {
        return Err(netra_store::Error::NameTaken.into());
    }
    let hash = gateway.passwords.hash(password, &name).await?;
    let user = match invite {
        Some(invite) => {
            let made = gateway
                .store
                .user_create_invited(&looking_up, invite, name, hash);
            match made.await {
                // Somebody else was faster.
                Err(netra_store::Error::NotFound) => return Err(not_invited()),
                made => made?,
            }
        }
        None => {
            let new = NewUser {
                name,
                role: Role::User,
                plan: Plan::Free,
                password_hash: Some(hash),
            };
            gateway.store.user_create(&looking_up, new).await?
        }
    };
    let tokens = session::begin(&gateway, user).await?;
    Ok(signed_in(&gateway, &visitor, StatusCode::CREATED, tokens))
}

fn not_invited() -> Error {
    let message = "Registration here needs an invitation that is still good.";
    Error::new(ErrorCode::Forbidden, message)
}

/// Whether anybody may make an account now: the hash of the invitation where one is given or needed.
fn admitted(gateway: &Gateway, invite: Option<String>) -> Result<Option<[u8; 32]>, Error> {
    let invite = invite.map(|token| secret_hash(&token));
    match (gateway.config.registration, invite) {
        (Registration::Open, invite) => Ok(invite),
        (Registration::Invite, Some(invite)) => Ok(Some(invite)),
        (Registration::Invite, None) => Err(not_invited()),
        (Registration::Closed, _) => Err(Error::new(
            ErrorCode::Forbidden,
            "Registration is closed; ask an admin for an account.",
        )),
    }
}

/// Sets a new password
///
/// With the token of a link that an admin has made, once. Ends all of the user's sessions.
#[utoipa::path(post, path = "/api/auth/reset", tag = "accounts", operation_id = "account_reset",
    request_body = Reset, responses((status = 204, description = "Set; sign in with it")),
    security(()))]
pub(crate) async fn reset(
    State(gateway): State<Gateway>,
    visitor: Visitor,
    body: Payload,
) -> Result<StatusCode, Error> {
    let Reset { token, password } = body.read().await?;
    throttle(&gateway, "", &visitor).await?;
    let refused = || Error::unauthenticated("The link was used, has ended, or is not valid.");
    let (ctx, link) = (session::looking_up(&gateway), secret_hash(&token));
    // Asked before the password is hashed, which takes time and memory.
    if !gateway.store.reset_link_is_good(&ctx, link).await? {
        return Err(refused());
    }
    let hash = gateway.passwords.hash(password, "").await?;
    match gateway.store.password_reset(&ctx, link, hash).await {
        Ok(user) => {
            gateway.verifier.revoke(Revoked::User(user));
            Ok(StatusCode::NO_CONTENT)
        }
        Err(netra_store::Error::NotFound) => Err(refused()),
        Err(error) => Err(error.into()),
    }
}

/// Signs in
///
/// A wrong name and a wrong password give the same answer after the same time.
#[utoipa::path(post, path = "/api/auth/login", tag = "accounts", operation_id = "account_login",
    request_body = Login, responses((status = 200, description = "Signed in", body = Tokens)),
    security(()))]
pub(crate) async fn login(
    State(gateway): State<Gateway>,
    visitor: Visitor,
    body: Payload,
) -> Result<Response, Error> {
    let Login { name, password } = body.read().await?;
    throttle(&gateway, &name, &visitor).await?;
    let known = gateway
        .store
        .user_by_name(&session::looking_up(&gateway), &name)
        .await?;
    let (user, hash) = known.map(|known| (known.user, known.password_hash)).unzip();
    let fits = gateway.passwords.check(password, hash.flatten()).await?;
    match user {
        Some(user) if fits && !user.disabled => {
            let tokens = session::begin(&gateway, user).await?;
            Ok(signed_in(&gateway, &visitor, StatusCode::OK, tokens))
        }
        _ => Err(Error::unauthenticated(
            "The name or the password is not right.",
        )),
    }
}

/// Whether `--dev` signs this visitor in: a browser on this machine, on a page of this server.
fn is_dev_visitor(gateway: &Gateway, visitor: &Visitor) -> bool {
    let headers = &visitor.headers;
    // The layers have checked it; this only reads it again.
    let host = origin::host(headers, &visitor.uri);
    let forwarded = ["forwarded", "x-forwarded-for", "x-real-ip"];
    let site = headers
        .get("sec-fetch-site")
        .and_then(|site| site.to_str().ok());
    gateway.config.dev
        && visitor.peer.is_some_and(Peer::is_loopback)
        && host.is_some_and(origin::Host::is_loopback)
        && !forwarded.iter().any(|name| headers.contains_key(*name))
        && matches!(site, None | Some("same-origin" | "none"))
        && origin::is_own(headers, &visitor.uri)
}

/// Goes on with a new access token
///
/// Each refresh token can be used once; using it again ends its session.
#[utoipa::path(post, path = "/api/auth/refresh", tag = "accounts",
    operation_id = "account_refresh", request_body = Option<Refresh>,
    responses((status = 200, description = "Signed in", body = Tokens)), security(()))]
pub(crate) async fn refresh(
    State(gateway): State<Gateway>,
    visitor: Visitor,
    body: Payload,
) -> Result<Response, Error> {
    let Refresh { refresh_token } = body.read_or_default().await?;
    let by_cookie = refresh_token.is_none();
    let carried = match refresh_token.or_else(|| kept(&gateway, &visitor)) {
        Some(token) => session::carry_on(&gateway, &token).await,
        None => Err(Error::unauthenticated(
            "There is no refresh token; sign in.",
        )),
    };
    match carried {
        Ok(tokens) => Ok(signed_in(&gateway, &visitor, StatusCode::OK, tokens)),
        Err(error) if error.code() != ErrorCode::Unauthenticated || !by_cookie => Err(error),
        Err(_) if is_dev_visitor(&gateway, &visitor) => {
            let tokens = session::begin_dev(&gateway).await?;
            Ok(signed_in(&gateway, &visitor, StatusCode::OK, tokens))
        }
        Err(error) => {
            let forget = cookie::forget(is_secure(&gateway, &visitor));
            Ok(with_cookie(error.into_response(), forget))
        }
    }
}

/// Ends the session
///
/// Of the access token, of the refresh token, or of the browser's cookie.
#[utoipa::path(post, path = "/api/auth/logout", tag = "accounts", operation_id = "account_logout",
    request_body = Option<Refresh>, responses((status = 204, description = "Signed out")))]
pub(crate) async fn logout(
    State(gateway): State<Gateway>,
    visitor: Visitor,
    body: Payload,
) -> Result<Response, Error> {
    let Refresh { refresh_token } = body.read_or_default().await?;
    let refresh_token = refresh_token.or_else(|| kept(&gateway, &visitor));
    let caller = match presented(&visitor.headers)? {
        Some(token) => match gateway.verifier.verify(Presented::of(token)).await {
            Ok(passed) => Some(passed.verified),
            // A token past its end must not keep anybody from signing out.
            Err(_) if refresh_token.is_some() => None,
            Err(error) => return Err(error),
        },
        None if refresh_token.is_some() => None,
        None => return Err(Error::unauthenticated("The credentials are missing.")),
    };
    if let Some(verified) = caller {
        match verified.grant {
            Grant::Session(session) => {
                session::end(&gateway, &session::looking_up(&gateway), session).await?;
            }
            // It has no session. It ends by its own end, or when it is revoked.
            Grant::Console | Grant::Issuer | Grant::Key(_) | Grant::Service { .. } => {}
        }
    }
    if let Some(token) = refresh_token {
        session::end_by_token(&gateway, &token).await?;
    }
    let forget = cookie::forget(is_secure(&gateway, &visitor));
    Ok(with_cookie(StatusCode::NO_CONTENT.into_response(), forget))
}

/// Gives a ticket for one WebSocket
///
/// Good once, for 30 seconds, from the page that asked.
#[utoipa::path(post, path = "/api/auth/ws-ticket", tag = "accounts",
    operation_id = "account_ws_ticket",
    request_body = Option<Empty>,
    responses((status = 200, description = "A ticket", body = Ticket)))]
pub(crate) async fn ws_ticket(
    State(gateway): State<Gateway>,
    caller: Caller,
    visitor: Visitor,
    body: Payload,
) -> Result<Answer<Ticket>, Error> {
    let Empty {} = body.read_or_default().await?;
    let ticket = secret_text(&gateway.runtime.secret_bytes::<32>());
    let owner = TicketOwner {
        user_id: caller.verified.principal.user_id,
        grant: caller.verified.grant,
        expires_at: caller.verified.expires_at,
        origin: origin::origin(&visitor.headers).map(str::to_owned),
    };
    let life = gateway.config.ticket_ttl;
    let secret = secret_hash(&ticket);
    if !gateway.store.ticket_issue(secret, owner, life).await {
        return Err(Error::new(
            ErrorCode::Overloaded,
            "Too many tickets wait to be used.",
        ));
    }
    let expires_in_ms = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
    Ok(Answer(Ticket {
        ticket,
        expires_in_ms,
    }))
}

/// Tells who is signed in
#[utoipa::path(get, path = "/api/auth/me", tag = "accounts", operation_id = "account_me",
    responses((status = 200, description = "The user", body = User)))]
pub(crate) async fn me(State(gateway): State<Gateway>, caller: Caller) -> Result<Response, Error> {
    let id = caller.verified.principal.user_id;
    let user = gateway.verifier.account(&caller.ctx, id).await?;
    Ok(Answer(&*user).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_letters_digits_and_four_signs() {
        for good in ["a", "Anna.b-c_d@example.org", &"x".repeat(64)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", " ", "a b", "a/b", "a\n", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_that_looks_like_another_is_refused() {
        // The Kelvin sign, and a Cyrillic first letter.
        for alike in ["\u{212a}", "\u{430}nna"] {
            assert!(check_name(alike).is_err(), "{alike}");
        }
    }
}
