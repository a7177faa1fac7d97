//! The log as it is read in pages.

use netra_context::memory::Account;
use netra_store::{Changes, Error};

use crate::fixture::Fixture;

#[tokio::test]
async fn a_page_that_the_user_has_no_room_for_is_refused_before_it_is_read() {
    let fixture = Fixture::new();
    let alice = fixture.user("alice").await;
    let run = fixture.run(&alice).await;
    let thought = fixture.thought(&run, "hm");
    let committed = fixture
        .store
        .commit(&alice, &run, Changes::default(), vec![thought]);
    committed.await.unwrap();
    let account = Account::user();
    account.set_limit(1 << 20);
    let page = |bytes| {
        let read = fixture.store.events_within(&alice, 0, 10, bytes);
        account.scope().wrap(read)
    };
    assert!(!page(1 << 20).await.unwrap().is_empty());
    let refused = page((1 << 20) + 1).await;
    assert!(matches!(refused, Err(Error::Memory(_))), "{refused:?}");
    assert_eq!(account.current_bytes(), 0);
}
