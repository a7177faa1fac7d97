//! Pictures that a user gives, as models get them.

use netra_context::UserExecutionContext;
use netra_model::Message as Said;
use netra_model::scripted::{Answer, ScriptedModel};
use netra_protocol::ErrorCode;
use netra_protocol::file::File;
use netra_protocol::id::ThreadId;
use netra_protocol::limits::Limits;
use netra_protocol::run::StartRun;

use super::house::{House, ask, failure_of};

/// A picture by its first bytes, of this length.
fn picture(bytes: usize) -> Vec<u8> {
    let mut content = b"\x89PNG\r\n\x1a\n".to_vec();
    content.resize(bytes, 7);
    content
}

async fn given(
    house: &House,
    ctx: &UserExecutionContext,
    name: &str,
    media_type: &str,
    content: Vec<u8>,
) -> File {
    let (name, media_type) = (name.to_owned(), media_type.to_owned());
    let begun = house.store.file_begin(ctx, name, media_type, None, 1 << 24);
    let mut file = begun.await.unwrap();
    file.write(&content).await.unwrap();
    file.finish(None).await.unwrap().value
}

/// What the model is told of these files: the text, and each picture's media type and length.
async fn told(
    house: &House,
    ctx: &UserExecutionContext,
    files: &[&File],
) -> (String, Vec<(String, usize)>) {
    let mut request = ask("assistant", "What is it?");
    request.files = files.iter().map(|file| file.id).collect();
    let run = house.start(ctx, request).await.unwrap().run;
    house.ended(ctx, run.id).await;
    house.quiet().await;
    let requests = house.model.requests();
    let Some(Said::User { text, images }) = requests.last().unwrap().messages.last() else {
        panic!("{requests:?}")
    };
    let shown = images
        .iter()
        .map(|image| (image.media_type.clone(), image.base64.len()));
    (text.clone(), shown.collect())
}

#[tokio::test]
async fn a_picture_that_is_one_is_shown_and_all_else_stands_in_the_text() {
    let model = ScriptedModel::from_fn("test", |_| Answer::new().text("A cat.")).with_images();
    let house = House::with_model(model);
    let ctx = house.user().await;
    let small = given(&house, &ctx, "a.png", "image/png", picture(300)).await;
    let lie = given(&house, &ctx, "b.png", "image/png", b"<svg/>".to_vec()).await;
    let table = given(&house, &ctx, "c.csv", "text/csv", picture(300)).await;
    let large = given(&house, &ctx, "d.png", "image/png", picture(3_750_001)).await;
    let (text, shown) = told(&house, &ctx, &[&small, &lie, &table, &large]).await;
    assert_eq!(shown, [("image/png".to_owned(), 400)]);
    for name in ["a.png", "b.png", "c.csv", "d.png"] {
        assert!(text.contains(&format!("[file: {name}, ")), "{text}");
    }
}

#[tokio::test]
async fn all_pictures_together_have_a_limit() {
    let model = ScriptedModel::from_fn("test", |_| Answer::new().text("Cats.")).with_images();
    let house = House::with_model(model);
    let ctx = house.user().await;
    let mut files = Vec::new();
    for (name, bytes) in [
        ("a", 3_700_000),
        ("b", 3_700_000),
        ("c", 3_700_000),
        ("d", 3_000_000),
        ("e", 3_000),
    ] {
        files.push(given(&house, &ctx, name, "image/png", picture(bytes)).await);
    }
    let (_, shown) = told(&house, &ctx, &files.iter().collect::<Vec<_>>()).await;
    let lengths: Vec<_> = shown.iter().map(|(_, length)| *length).collect();
    assert_eq!(lengths, [4_933_336, 4_933_336, 4_933_336, 4_000]);
}

/// The pictures of each message that a user has sent, as the model was last told.
fn all_shown(house: &House) -> Vec<usize> {
    let requests = house.model.requests();
    let of = |said: &Said| match said {
        Said::User { images, .. } => Some(images.len()),
        _ => None,
    };
    let said = requests.last().unwrap().messages.iter();
    said.filter_map(of).collect()
}

/// Asks about these files, on a thread where there is one already.
async fn asked(
    house: &House,
    ctx: &UserExecutionContext,
    thread: Option<ThreadId>,
    files: &[&File],
) -> ThreadId {
    let request = StartRun {
        files: files.iter().map(|file| file.id).collect(),
        ..ask("assistant", "What is it?")
    };
    let started = match thread {
        None => house.start(ctx, request).await,
        Some(thread) => house.start_on(ctx, thread, request).await,
    };
    let run = started.unwrap().run;
    house.ended(ctx, run.id).await;
    run.thread_id
}

#[tokio::test]
async fn the_pictures_of_earlier_messages_are_shown_again_while_they_are_there() {
    let model = ScriptedModel::from_fn("test", |_| Answer::new().text("A cat.")).with_images();
    let house = House::with_model(model);
    let ctx = house.user().await;
    let cat = given(&house, &ctx, "cat.png", "image/png", picture(300)).await;
    let dog = given(&house, &ctx, "dog.png", "image/png", picture(300)).await;
    let mut shown = Vec::new();
    let thread = asked(&house, &ctx, None, &[&cat]).await;
    shown.push(all_shown(&house));
    for files in [&[&dog][..], &[]] {
        asked(&house, &ctx, Some(thread), files).await;
        shown.push(all_shown(&house));
    }
    let file = house.store.file(&ctx, cat.id).for_write().await.unwrap();
    house.store.file_delete(&ctx, file).await.unwrap();
    asked(&house, &ctx, Some(thread), &[]).await;
    shown.push(all_shown(&house));
    let expected = [vec![1], vec![1, 1], vec![1, 1, 0], vec![0, 1, 0, 0]];
    assert_eq!(shown, expected);
    house.quiet().await;
}

#[tokio::test]
async fn pictures_of_earlier_messages_have_what_the_newer_ones_leave_of_the_limit() {
    let model = ScriptedModel::from_fn("test", |_| Answer::new().text("Cats.")).with_images();
    let house = House::with_model(model);
    let ctx = house.user().await;
    let mut thread = None;
    for name in ["a", "b", "c", "d"] {
        let file = given(&house, &ctx, name, "image/png", picture(3_700_000)).await;
        thread = Some(asked(&house, &ctx, thread, &[&file]).await);
    }
    assert_eq!(all_shown(&house), [0, 1, 1, 1], "the oldest has no room");
    house.quiet().await;
}

#[tokio::test]
async fn a_model_that_is_shown_no_pictures_is_told_their_names() {
    let house = House::answering([Answer::new().text("I cannot see.")]);
    let ctx = house.user().await;
    let small = given(&house, &ctx, "a.png", "image/png", picture(300)).await;
    let (text, shown) = told(&house, &ctx, &[&small]).await;
    assert_eq!(shown, []);
    assert!(
        text.contains("[file: a.png, image/png, 300 bytes]"),
        "{text}"
    );
}

#[tokio::test]
async fn a_picture_that_the_user_has_no_memory_for_fails_the_run_and_is_shown_to_nobody() {
    let model = ScriptedModel::from_fn("test", |_| Answer::new().text("A cat.")).with_images();
    let house = House::with_model(model);
    let limits = Limits {
        memory_mib: 2,
        ..Limits::default()
    };
    let ctx = house.user_with(limits).await;
    // Its four copies are more than that.
    let large = given(&house, &ctx, "a.png", "image/png", picture(600_000)).await;
    let mut request = ask("assistant", "What is it?");
    request.files = vec![large.id];
    let run = house.start(&ctx, request).await.unwrap().run;
    let (_, log) = house.ended(&ctx, run.id).await;
    assert_eq!(failure_of(&log).code, ErrorCode::MemoryLimitExceeded);
    assert!(house.model.requests().is_empty());
    house.quiet().await;
}
