//! Uploads: streamed to the store piece by piece, never held in memory.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Json as Answer;
use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest as _, Multipart, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use futures::{Stream, StreamExt as _};
use netra_context::runtime::TaskKind;
use netra_protocol::ErrorCode;
use netra_protocol::file::File;
use netra_store::FileWriter;
use parking_lot::Mutex;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::extract::{Caller, IdempotencyKey};
use crate::json::{declared_length, too_large, unread};
use crate::serve::pace::is_stalled;
use crate::state::Gateway;

const MAX_NAME_CHARS: usize = 255;
/// What a multipart body may have around the file, in bytes.
const MULTIPART_EXTRA: u64 = 64 * 1024;
/// How long the rest of a refused upload is read and thrown away, so that the client, which may
/// read the answer only after it has sent everything, gets to see it.
const DISCARD_FOR: Duration = Duration::from_secs(30);

/// The parameters of an upload.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Upload {
    /// The file's name, for a raw body; goes before the name in a multipart body. Of a path its last part.
    #[param(min_length = 1)]
    name: Option<String>,
}

/// What a form has: one file, in a field of any name.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is there for the document alone")]
pub(crate) struct Form {
    /// With the file's name.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// A body that can be read on after whoever read it first has given up.
#[derive(Clone)]
struct SharedBody(Arc<Mutex<BodyDataStream>>);

impl Stream for SharedBody {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.lock().poll_next_unpin(cx)
    }
}

/// A file on its way in.
struct Incoming {
    writer: FileWriter,
    /// Over name and type, for the idempotency key; that of the content follows, which the store has.
    hash: Sha256,
}

impl Incoming {
    async fn begin(
        gateway: &Gateway,
        caller: &Caller<Upload>,
        name: String,
        media_type: String,
    ) -> Result<Self, Error> {
        let mut hash = Sha256::new();
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update(media_type.as_bytes());
        hash.update([0]);
        let limit = limit_bytes(caller);
        let writer = gateway
            .store
            .file_begin(&caller.ctx, name, media_type, None, limit)
            .await?;
        Ok(Self { writer, hash })
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.writer.write(bytes).await?)
    }

    async fn finish(mut self, key: IdempotencyKey) -> Result<File, Error> {
        self.hash.update(self.writer.digest());
        let digest: [u8; 32] = self.hash.finalize().into();
        let key = key.of("file_create", &digest)?;
        Ok(self.writer.finish(key.as_ref()).await?.value)
    }
}

fn limit_bytes(caller: &Caller<Upload>) -> u64 {
    caller
        .verified
        .principal
        .limits
        .upload_mib
        .saturating_mul(1024 * 1024)
}

/// The last part of what may be a path, without what cannot be shown.
fn file_name(given: &str) -> Result<String, Error> {
    let name = given.rsplit(['/', '\\']).next().unwrap_or_default().trim();
    let name: String = name.chars().filter(|letter| !letter.is_control()).collect();
    if name.is_empty() || name == "." || name == ".." || name.chars().count() > MAX_NAME_CHARS {
        let message = "A file has a name of 1 to 255 characters (`?name=`).";
        return Err(Error::invalid(message).breaks("name", "file_name"));
    }
    Ok(name)
}

/// The declared type without parameters, if it is one.
fn media_type(declared: Option<&str>) -> String {
    let essence = declared
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    let part = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    match essence.split_once('/') {
        Some((kind, sort)) if part(kind) && part(sort) && essence.len() <= 127 => {
            essence.to_ascii_lowercase()
        }
        _ => "application/octet-stream".into(),
    }
}

fn is_multipart(headers: &HeaderMap) -> bool {
    let declared = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    media_type(declared) == "multipart/form-data"
}

fn broken_multipart(error: MultipartError) -> Error {
    let message = "The multipart body could not be read to its end.";
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Error::new(ErrorCode::TooLarge, "The upload is too large.")
        }
        _ if is_stalled(&error) => Error::stalled_body().caused_by(error),
        _ => Error::invalid(message)
            .breaks("", "multipart")
            .caused_by(error),
    }
}

/// Stores a file
///
/// As the raw body with `?name=`, or as `multipart/form-data` with one file.
#[utoipa::path(post, path = "/api/files", tag = "files", operation_id = "file_create",
    params(Upload),
    request_body(content((Vec<u8> = "application/octet-stream"), (Form = "multipart/form-data")),
        description = "The content, with any content type, or multipart/form-data with one file"),
    responses((status = 201, description = "The file", body = File)))]
pub(crate) async fn file_create(
    State(gateway): State<Gateway>,
    caller: Caller<Upload>,
    key: IdempotencyKey,
    request: Request,
) -> Result<(StatusCode, Answer<File>), Error> {
    let (parts, body) = request.into_parts();
    let shared = SharedBody(Arc::new(Mutex::new(body.into_data_stream())));
    let stored = store(&gateway, &caller, key, &parts.headers, shared.clone()).await;
    if stored.is_err() {
        gateway
            .runtime
            .spawn(TaskKind::Part, discard(gateway.clone(), shared));
    }
    Ok((StatusCode::CREATED, Answer(stored?)))
}

async fn discard(gateway: Gateway, mut rest: SharedBody) {
    let read = async { while rest.next().await.is_some_and(|piece| piece.is_ok()) {} };
    tokio::select! {
        () = read => {}
        () = tokio::time::sleep(DISCARD_FOR) => {}
        () = gateway.runtime.shutdown().cancelled() => {}
    }
}

async fn store(
    gateway: &Gateway,
    caller: &Caller<Upload>,
    key: IdempotencyKey,
    headers: &HeaderMap,
    body: SharedBody,
) -> Result<File, Error> {
    let limit = limit_bytes(caller);
    let multipart = is_multipart(headers);
    let extra = if multipart { MULTIPART_EXTRA } else { 0 };
    if declared_length(headers).is_some_and(|length| length > limit.saturating_add(extra)) {
        return Err(too_large(limit));
    }
    if multipart {
        let mut request = Request::new(Body::from_stream(body));
        *request.headers_mut() = headers.clone();
        let parts = Multipart::from_request(request, &()).await;
        let parts = parts.map_err(|error| {
            let refused = Error::invalid("The multipart body has no boundary.");
            refused.breaks("", "multipart").caused_by(error)
        })?;
        store_multipart(gateway, caller, key, parts).await
    } else {
        store_raw(gateway, caller, key, headers, body).await
    }
}

async fn store_raw(
    gateway: &Gateway,
    caller: &Caller<Upload>,
    key: IdempotencyKey,
    headers: &HeaderMap,
    mut body: SharedBody,
) -> Result<File, Error> {
    let name = file_name(caller.query.name.as_deref().unwrap_or_default())?;
    let declared = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let mut incoming = Incoming::begin(gateway, caller, name, media_type(declared)).await?;
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| unread(&error).caused_by(error))?;
        incoming.write(&piece).await?;
    }
    incoming.finish(key).await
}

async fn store_multipart(
    gateway: &Gateway,
    caller: &Caller<Upload>,
    key: IdempotencyKey,
    mut parts: Multipart,
) -> Result<File, Error> {
    let mut found: Option<Incoming> = None;
    while let Some(field) = parts.next_field().await.map_err(broken_multipart)? {
        if field.file_name().is_none() {
            let name = field
                .name()
                .unwrap_or_default()
                .chars()
                .take(100)
                .collect::<String>();
            let message = format!("The field `{name}` is not known.");
            return Err(Error::new(ErrorCode::UnknownField, message)
                .breaks(&name, "additionalProperties false"));
        }
        if found.is_some() {
            return Err(Error::invalid("One request stores one file.").breaks("", "one_file"));
        }
        found = Some(store_field(gateway, caller, field).await?);
    }
    let incoming = found
        .ok_or_else(|| Error::invalid("The multipart body has no file.").breaks("", "one_file"))?;
    incoming.finish(key).await
}

async fn store_field(
    gateway: &Gateway,
    caller: &Caller<Upload>,
    mut field: Field<'_>,
) -> Result<Incoming, Error> {
    let name = caller
        .query
        .name
        .as_deref()
        .or(field.file_name())
        .unwrap_or_default();
    let name = file_name(name)?;
    let media_type = media_type(field.content_type());
    let mut incoming = Incoming::begin(gateway, caller, name, media_type).await?;
    while let Some(piece) = field.chunk().await.map_err(broken_multipart)? {
        incoming.write(&piece).await?;
    }
    Ok(incoming)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path() {
        assert_eq!(file_name("../../etc/passwd").unwrap(), "passwd");
        assert_eq!(file_name(r"C:\logs\a b.csv").unwrap(), "a b.csv");
        assert_eq!(file_name("a\r\nb").unwrap(), "ab");
        for bad in ["", " ", "/", "..", "a/..", &"x".repeat(256)] {
            assert!(file_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_type_is_plain_bytes() {
        assert_eq!(media_type(Some("Text/CSV; charset=utf-8")), "text/csv");
        for odd in [
            None,
            Some(""),
            Some("text"),
            Some("text/"),
            Some("a/b\r\nc"),
            Some("a/b c"),
        ] {
            assert_eq!(media_type(odd), "application/octet-stream", "{odd:?}");
        }
    }
}
