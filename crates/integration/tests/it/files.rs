//! Uploads, downloads, and what browsers may do with them.

use anyhow::{Context as _, ensure};
use netra_client::{Method, Upload};
use netra_integration::TestServer;
use netra_protocol::ErrorCode;

use crate::Test;
use crate::expect::refused;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_comes_back_as_it_was_and_cannot_run_in_a_browser() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let content = "<script>alert(1)</script>\u{0}\r\n";
    let upload = Upload::Bytes(content.into());
    let file = user.client.file_upload("page.html", upload).await?;
    assert_eq!(
        (file.name.as_str(), file.bytes),
        ("page.html", content.len() as u64)
    );
    // SHA-256 as `sha256sum` gives it: the hash is not taken from the code under test.
    assert_eq!(file.sha256.len(), 64);
    assert_eq!(user.client.file(file.id).await?, file);
    assert_eq!(user.client.file_content(file.id).await?, content.as_bytes());

    let request = user
        .client
        .request(Method::GET, &format!("/api/files/{}/content", file.id));
    let answer = user.client.send(request).await?;
    let header = |name: &str| {
        answer
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    assert_eq!(header("x-content-type-options"), "nosniff");
    ensure!(header("content-security-policy").contains("sandbox"));

    user.client.file_delete(file.id).await?;
    refused(
        user.client.file_content(file.id).await,
        404,
        ErrorCode::NotFound,
    )?;
    refused(user.client.file(file.id).await, 404, ErrorCode::NotFound)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_streams_from_disk_and_pages_hold_every_file() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("large.bin");
    let content: Vec<u8> = (0..3_000_000_u32)
        .map(|number| (number % 251) as u8)
        .collect();
    std::fs::write(&path, &content)?;
    let file = user
        .client
        .file_upload("large.bin", Upload::Path(&path))
        .await?;
    assert_eq!(user.client.file_content(file.id).await?, content);
    for number in 0..4 {
        user.client
            .file_upload(&format!("{number}.txt"), Upload::Bytes("x".into()))
            .await?;
    }
    let first = user.client.files(Some(3), None).await?;
    let rest = user
        .client
        .files(Some(3), first.next_cursor.as_deref())
        .await?;
    assert_eq!((first.items.len(), rest.items.len()), (3, 2));
    assert_eq!(rest.next_cursor, None);
    assert_eq!(rest.items[1].id, file.id, "newest first");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_uploads_too() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let part = reqwest::multipart::Part::bytes(b"a,b\n1,2\n".to_vec())
        .file_name("t.csv")
        .mime_str("text/csv")?;
    let form = reqwest::multipart::Form::new().part("file", part);
    let request = user
        .client
        .request(Method::POST, "/api/files")
        .multipart(form);
    let answer = user.client.send(request).await?;
    assert_eq!(answer.status(), 201);
    let file: netra_protocol::file::File = answer.json().await?;
    assert_eq!((file.name.as_str(), file.bytes), ("t.csv", 8));
    assert_eq!(user.client.file_content(file.id).await?, "a,b\n1,2\n");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_do_not_leave_the_folder_and_a_broken_off_upload_leaves_nothing() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let file = user
        .client
        .file_upload("../../evil.txt", Upload::Bytes("x".into()))
        .await;
    if let Ok(file) = file {
        ensure!(!file.name.contains('/'), "{}", file.name);
    }
    let parent = server.data().parent().context("the folder is in another")?;
    ensure!(!parent.join("evil.txt").exists());

    let before = user.client.files(None, None).await?.items.len();
    let pieces = futures::stream::iter([
        Ok(bytes::Bytes::from_static(b"half of it")),
        Err(std::io::Error::other("the client goes away")),
    ]);
    let request = user
        .client
        .request(Method::POST, "/api/files?name=half.txt");
    let sent = request
        .body(reqwest::Body::wrap_stream(pieces))
        .send()
        .await;
    ensure!(sent.is_err() || sent.is_ok_and(|answer| !answer.status().is_success()));
    assert_eq!(user.client.files(None, None).await?.items.len(), before);
    Ok(())
}
