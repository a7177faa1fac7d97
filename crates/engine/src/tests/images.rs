//! Pictures that a user gives, as models get them.

use netra_context::UserExecutionContext;
use netra_model::Message as Said;
use netra_model::scripted::{Answer, ScriptedModel};
use netra_protocol::file::File;

use super::house::{House, ask};

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
