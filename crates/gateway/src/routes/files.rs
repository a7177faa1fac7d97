//! The user's files: uploads, and what runs made.

use std::fmt::Write as _;

use axum::Json as Answer;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use netra_protocol::Page;
use netra_protocol::file::File;
use netra_protocol::id::FileId;
use tokio_util::io::ReaderStream;

use crate::cursor::List;
use crate::error::Error;
use crate::extract::{Caller, Id, Paging};
use crate::state::Gateway;

/// Pieces in which content is read and sent, in bytes.
const PIECE: usize = 64 * 1024;

/// Lists files
///
/// Newest first.
#[utoipa::path(get, path = "/api/files", tag = "files", operation_id = "file_list",
    params(Paging), responses((status = 200, description = "Files", body = Page<File>)))]
pub(crate) async fn file_list(
    State(gateway): State<Gateway>,
    caller: Caller<Paging>,
    list: List,
) -> Result<Answer<Page<File>>, Error> {
    let limit = caller.query.limit()?;
    let from = list.position(caller.query.cursor.as_ref())?;
    let page = gateway.store.files(&caller.ctx, limit, from.as_deref());
    Ok(list.answer(page.await?))
}

/// Tells about a file
#[utoipa::path(get, path = "/api/files/{id}", tag = "files", operation_id = "file_get",
    params(("id" = FileId, Path, description = "The file")),
    responses((status = 200, description = "The file", body = File)))]
pub(crate) async fn file_get(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<FileId>,
) -> Result<Answer<File>, Error> {
    Ok(Answer(
        gateway
            .store
            .file(&caller.ctx, id)
            .for_read()
            .await?
            .into_inner(),
    ))
}

/// Deletes a file and its content
#[utoipa::path(delete, path = "/api/files/{id}", tag = "files", operation_id = "file_delete",
    params(("id" = FileId, Path, description = "The file")),
    responses((status = 204, description = "Deleted")))]
pub(crate) async fn file_delete(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<FileId>,
) -> Result<StatusCode, Error> {
    let file = gateway.store.file(&caller.ctx, id).for_write().await?;
    gateway.store.file_delete(&caller.ctx, file).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reads the content of a file
///
/// To be saved, not shown: a browser runs nothing of it.
#[utoipa::path(get, path = "/api/files/{id}/content", tag = "files",
    operation_id = "file_content", params(("id" = FileId, Path, description = "The file")),
    responses((status = 200, description = "The content, with the file's media type",
        content_type = "application/octet-stream", body = Vec<u8>)))]
pub(crate) async fn file_content(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<FileId>,
) -> Result<Response, Error> {
    let file = gateway.store.file(&caller.ctx, id).for_read().await?;
    let content = tokio::fs::File::open(gateway.store.file_path(&file)).await;
    let content = content.map_err(Error::internal)?;
    let body = Body::from_stream(ReaderStream::with_capacity(content, PIECE));
    Ok((content_headers(&file), body).into_response())
}

fn content_headers(file: &File) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let plain = HeaderValue::from_static("application/octet-stream");
    let media_type = HeaderValue::try_from(&file.media_type).unwrap_or(plain);
    headers.insert(header::CONTENT_TYPE, media_type);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(file.bytes));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("sandbox"),
    );
    if let Ok(disposition) = HeaderValue::try_from(disposition(&file.name)) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    headers
}

/// `attachment` with the name twice: in ASCII for old clients, percent-encoded for all others.
fn disposition(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|letter| match letter {
            '"' | '\\' => '_',
            ' '..='~' => letter,
            _ => '_',
        })
        .collect();
    let mut text = format!("attachment; filename=\"{plain}\"; filename*=UTF-8''");
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            write!(text, "%{byte:02X}").ok();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_given_twice() {
        assert_eq!(
            disposition("Kosten \"Mai\".csv"),
            "attachment; filename=\"Kosten _Mai_.csv\"; filename*=UTF-8''Kosten%20%22Mai%22.csv"
        );
        assert!(disposition("ä").ends_with("filename=\"_\"; filename*=UTF-8''%C3%A4"));
    }

    proptest! {
        #[test]
        fn every_name_makes_one_header(name in "\\PC{0,80}") {
            let text = disposition(&name);
            prop_assert!(HeaderValue::try_from(&text).is_ok());
            prop_assert_eq!(text.matches('"').count(), 2);
            prop_assert_eq!(text.matches(';').count() - name.matches(';').count(), 2);
        }
    }
}
