//! What a secret was is in no memory that was given back: it is wiped before that.

#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "store/backend.rs"]
#[expect(dead_code, reason = "most of it is for the other tests")]
mod backend;
#[path = "store/between.rs"]
#[expect(dead_code, reason = "most of it is for the other tests")]
mod between;
#[path = "store/fixture.rs"]
#[expect(dead_code, reason = "most of it is for the other tests")]
mod fixture;

use std::collections::BTreeMap;

use netra_context::Secret;
use netra_memory::{Searched, found_in_freed, search_for};
use netra_store::Secrets;
use netra_store::secret::{Keyring, NewSecret};

use crate::fixture::Fixture;

#[global_allocator]
static ALLOCATOR: Searched = Searched;

const CANARY: &str = "canary-that-is-wiped";

/// One test: the count is the program's.
#[tokio::test]
async fn a_secret_that_was_kept_and_revealed_is_in_no_freed_block() {
    assert!(search_for(CANARY.as_bytes()));
    drop(std::hint::black_box(CANARY.to_owned()));
    assert_eq!(found_in_freed(), 1, "what is not wiped is found");
    let fixture = Fixture::new();
    let alice = fixture.user("alice").await;
    let keyring = Keyring::at(&fixture.runtime, fixture.dir().join("secret-keys")).unwrap();
    let secrets = Secrets::open(&fixture.store, keyring, BTreeMap::new());
    let secrets = secrets.await.unwrap();
    let new = NewSecret {
        name: "wiki".into(),
        value: Secret::new(CANARY),
        places: vec!["api.example".into()],
    };
    secrets.put(&alice, new).await.unwrap();
    for _ in 0..3 {
        let revealed = secrets.reveal(&alice, "wiki", "api.example").await.unwrap();
        let copy = revealed.clone();
        assert_eq!(copy.expose(), CANARY);
    }
    secrets.to_conceal(&alice, "wiki").await.unwrap();
    drop((secrets, fixture));
    assert_eq!(found_in_freed(), 1);
}
