//! Notes: kept under names, found by words, bounded, and never another user's.

use netra_context::UserExecutionContext;
use netra_store::{Error, MAX_NOTES};

use crate::fixture::Fixture;

impl Fixture {
    async fn keep(&self, ctx: &UserExecutionContext, name: &str, text: &str) {
        let kept = self.store.note_keep(ctx, name.into(), text.into()).await;
        assert_eq!(kept.unwrap().text, text);
    }

    /// The names of what a search finds, best first.
    async fn found(&self, ctx: &UserExecutionContext, query: &str) -> Vec<String> {
        let found = self.store.notes(ctx, Some(query.into()), 10).await.unwrap();
        found.0.into_iter().map(|note| note.name).collect()
    }
}

#[tokio::test]
async fn a_note_is_found_by_its_words_and_the_best_comes_first() {
    let fixture = Fixture::new();
    let alice = fixture.user("alice").await;
    fixture
        .keep(&alice, "colour", "Her favourite colour is blue.")
        .await;
    fixture
        .keep(&alice, "car", "She drives a blue car to Zürich.")
        .await;
    fixture
        .keep(&alice, "diet", "No colourings, no nuts.")
        .await;
    assert_eq!(
        fixture.found(&alice, "what favourite colour?").await,
        ["colour", "diet"]
    );
    assert_eq!(fixture.found(&alice, "blue").await, ["car", "colour"]);
    assert_eq!(fixture.found(&alice, "ZURICH").await, ["car"]);
    assert_eq!(fixture.found(&alice, "diet").await, ["diet"], "by its name");
    assert_eq!(fixture.found(&alice, "red").await, [""; 0]);
    assert_eq!(fixture.found(&alice, "\"* OR").await, [""; 0]);
    let (newest, total) = fixture.store.notes(&alice, None, 2).await.unwrap();
    let names: Vec<&str> = newest.iter().map(|note| note.name.as_str()).collect();
    assert_eq!((names, total), (vec!["diet", "car"], 3));
}

#[tokio::test]
async fn a_name_stands_for_one_text_and_a_deleted_one_is_not_found() {
    let fixture = Fixture::new();
    let alice = fixture.user("alice").await;
    fixture.keep(&alice, "Colour", "blue").await;
    fixture.keep(&alice, "colour", "green").await;
    assert_eq!(fixture.found(&alice, "blue").await, [""; 0]);
    assert_eq!(fixture.found(&alice, "green").await, ["colour"]);
    let handle = fixture
        .store
        .note(&alice, "COLOUR".into())
        .for_write()
        .await;
    fixture
        .store
        .note_delete(&alice, handle.unwrap())
        .await
        .unwrap();
    assert_eq!(fixture.found(&alice, "green").await, [""; 0]);
    let gone = fixture.store.note(&alice, "colour".into()).for_read().await;
    assert!(matches!(gone, Err(Error::NotFound)));
}

#[tokio::test]
async fn nobody_finds_or_changes_the_notes_of_another() {
    let fixture = Fixture::new();
    let alice = fixture.user("alice").await;
    let bob = fixture.user("bob").await;
    fixture.keep(&alice, "plan", "the secret garden").await;
    fixture.keep(&bob, "plan", "a picnic").await;
    assert_eq!(fixture.found(&bob, "secret garden").await, [""; 0]);
    assert_eq!(fixture.found(&alice, "plan secret").await, ["plan"]);
    // Nor by the word that stands for a user in the index.
    let owner = hex(&alice);
    for query in [owner.clone(), format!("owner {owner} secret")] {
        assert_eq!(fixture.found(&bob, &query).await, [""; 0], "{query}");
        assert!(fixture.found(&alice, &owner).await.is_empty());
    }
    let handle = fixture.store.note(&bob, "plan".into()).for_write().await;
    fixture
        .store
        .note_delete(&bob, handle.unwrap())
        .await
        .unwrap();
    assert_eq!(fixture.found(&alice, "garden").await, ["plan"]);
    let (all, total) = fixture.store.notes(&bob, None, 10).await.unwrap();
    assert_eq!((all.len(), total), (0, 0));
}

/// How common a word is with others must not show in the order of one's own notes.
#[tokio::test]
async fn the_order_of_notes_does_not_depend_on_what_others_write() {
    let fixture = Fixture::new();
    let alice = fixture.user("alice").await;
    fixture.keep(&alice, "one", "merger").await;
    fixture.keep(&alice, "two", "picnic").await;
    let alone = fixture.found(&alice, "merger picnic").await;
    let bob = fixture.user("bob").await;
    for (word, count) in [("picnic", 40), ("merger", 3)] {
        for number in 0..count {
            fixture.keep(&bob, &format!("{word} {number}"), word).await;
        }
        assert_eq!(fixture.found(&alice, "merger picnic").await, alone);
    }
}

#[tokio::test]
async fn number_and_size_are_bounded_and_what_is_over_leaves_nothing() {
    let fixture = Fixture::new();
    let alice = fixture.user("alice").await;
    let keep = |name: String, text: String| fixture.store.note_keep(&alice, name, text);
    let large = keep("large".into(), "x".repeat(8_001)).await;
    assert!(matches!(large, Err(Error::TooLarge { limit_bytes: 8_000 })));
    let long = keep("n".repeat(401), "x".into()).await;
    assert!(matches!(long, Err(Error::TooLarge { limit_bytes: 400 })));
    let all = (0..MAX_NOTES).map(|number| keep(format!("note {number}"), "text".into()));
    for kept in futures::future::join_all(all).await {
        kept.unwrap();
    }
    let over = keep("one more".into(), "overflow".into()).await;
    assert!(matches!(over, Err(Error::Conflict(_))));
    assert_eq!(fixture.found(&alice, "overflow").await, [""; 0]);
    // One that is there may be written anew, and somebody else has room.
    fixture.keep(&alice, "note 7", "changed").await;
    let bob = fixture.user("bob").await;
    fixture.keep(&bob, "mine", "text").await;
    let (_, total) = fixture.store.notes(&alice, None, 1).await.unwrap();
    assert_eq!(total, MAX_NOTES);
}

fn hex(ctx: &UserExecutionContext) -> String {
    let bytes = ctx.user_id().unwrap().to_bytes();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
