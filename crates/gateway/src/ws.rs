//! The WebSocket of a user: credentials and room are checked before the upgrade, then the socket's
//! own task takes over.

pub(crate) mod connections;
pub(crate) mod frames;
pub(crate) mod socket;
mod stall;

use std::sync::Arc;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts as _, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use netra_context::Right;
use netra_context::runtime::TaskKind;
use netra_protocol::ErrorCode;
use netra_protocol::frame::{MAX_INBOUND_BYTES, SUBPROTOCOL};
use netra_store::Grant;
use serde::Deserialize;

use self::connections::Kind;
use crate::auth::verifier::{Passed, Presented, Verified};
use crate::auth::{origin, secret_hash};
use crate::charge;
use crate::error::Error;
use crate::extract::parse_query;
use crate::layers::{acts_for, presented};
use crate::serve::places::Place;
use crate::state::Gateway;

/// What one socket reads at once, in bytes; most hold still most of the time.
const READ_BUFFER: usize = 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    ticket: Option<String>,
}

/// The token among the offered subprotocols, which is how a page without a ticket can send one.
fn offered_token(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut offers = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    offers.find_map(|offer| offer.trim().strip_prefix("bearer."))
}

async fn by_ticket(gateway: &Gateway, parts: &Parts, ticket: &str) -> Result<Passed, Error> {
    let refused = || Error::unauthenticated("The ticket is not valid; get a new one.");
    let taken = gateway.store.ticket_take(&secret_hash(ticket)).await;
    let owner = taken.ok_or_else(refused)?;
    // A back end asks without an origin for a page that has one, which was held against the allow-list before this.
    let is_handed_on = matches!(owner.grant, Grant::Service { .. }) && owner.origin.is_none();
    if !is_handed_on && owner.origin.as_deref() != origin::origin(&parts.headers) {
        return Err(refused());
    }
    let principal = gateway.verifier.look_up(owner.user_id, owner.grant).await?;
    let verified = Verified {
        principal,
        grant: owner.grant,
        // The socket lives as long as the credentials that asked for the ticket.
        expires_at: owner.expires_at,
        // Whoever asked for it was counted.
        key: None,
    };
    Ok(Passed {
        verified: Arc::new(verified),
        by_key: None,
    })
}

async fn credentials(gateway: &Gateway, parts: &Parts) -> Result<Passed, Error> {
    let query = parts.uri.query().unwrap_or_default();
    let Parameters { ticket } = parse_query(query)?;
    if let Some(ticket) = ticket {
        return by_ticket(gateway, parts, &ticket).await;
    }
    let token = presented(&parts.headers)?.or_else(|| offered_token(&parts.headers));
    let token = token.ok_or_else(|| Error::unauthenticated("The credentials are missing."))?;
    let presented = Presented {
        text: token,
        acts_for: acts_for(&parts.headers)?,
    };
    gateway.verifier.verify(presented).await
}

/// What is said where no more sockets and streams fit on the node.
pub(crate) fn node_is_full() -> Error {
    let message = "The server has as many sockets and streams as it can take.";
    Error::new(ErrorCode::Overloaded, message)
}

/// Opens the user's WebSocket
///
/// With the bearer header or `X-Api-Key`, the subprotocols `netra.v1` and `bearer.<token>`, or a ticket. The
/// frames are described in the WebSocket reference.
#[utoipa::path(get, path = "/ws", tag = "events", operation_id = "socket_open",
    params(("ticket" = Option<String>, Query, description = "From `/api/auth/ws-ticket`")),
    responses((status = 101, description = "The socket is open")))]
pub(crate) async fn socket_open(
    State(gateway): State<Gateway>,
    request: Request,
) -> Result<Response, Error> {
    let (mut parts, _) = request.into_parts();
    let passed = credentials(&gateway, &parts).await?;
    // What a socket is for; the other rights are asked for frame by frame.
    if !passed.verified.principal.rights.contains(Right::Read) {
        return Err(Error::forbidden());
    }
    let (_, account) = charge::admit(&gateway, &passed).await?;
    let verified = passed.verified;
    if gateway.engine.is_draining() || gateway.runtime.shutdown().is_cancelled() {
        return Err(Error::new(
            ErrorCode::Draining,
            "The server is about to stop.",
        ));
    }
    let connection = parts.extensions.get::<Arc<Place>>().cloned();
    let connection = connection.ok_or_else(|| Error::internal("a request without a place"))?;
    connection.keep();
    let place = gateway.connections.place_on_node(Kind::Socket);
    let place = place.ok_or_else(node_is_full)?;
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &gateway).await;
    let upgrade = upgrade.map_err(|error| {
        let refused = Error::invalid("This path takes WebSocket upgrades only.");
        refused.breaks("Upgrade", "websocket").caused_by(error)
    })?;
    Ok(upgrade
        .protocols([SUBPROTOCOL])
        .read_buffer_size(READ_BUFFER)
        .max_message_size(MAX_INBOUND_BYTES)
        .max_frame_size(MAX_INBOUND_BYTES)
        .on_upgrade(async move |opened| {
            let (runtime, scope) = (gateway.runtime.clone(), account.scope());
            let serve = async move {
                socket::serve(gateway, opened, verified, place, connection).await;
                drop(account);
            };
            let _entered = scope.enter();
            runtime.spawn(TaskKind::Socket, serve);
        }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_found_among_the_subprotocols() {
        let mut headers = HeaderMap::new();
        assert_eq!(offered_token(&headers), None);
        headers.append(
            header::SEC_WEBSOCKET_PROTOCOL,
            "netra.v1, bearer.a.b-c".parse().unwrap(),
        );
        assert_eq!(offered_token(&headers), Some("a.b-c"));
    }
}
