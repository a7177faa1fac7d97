//! What the sweep does with content of files, and what becomes of content that is not there.

use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use netra_protocol::id::FileId;
use netra_store::Error;
use rusqlite::Connection;

use crate::fixture::Fixture;

const DAY: Duration = Duration::from_secs(24 * 3_600);

impl Fixture {
    fn content(&self, name: &str) -> PathBuf {
        self.dir().join("files").join(name)
    }
}

#[tokio::test]
async fn content_that_nobody_can_see_is_removed_when_it_stood_still_for_a_day() {
    let fixture = Fixture::new();
    let alice = fixture.user("alice").await;
    let known = fixture.upload(&alice).await.finish(None).await.unwrap();
    let known = known.value.id.to_string();
    let unseen = FileId::from_parts(1, 2).to_string();
    let partial = format!("{}.part", FileId::from_parts(1, 3));
    for name in [&unseen, &partial, "README"] {
        std::fs::write(fixture.content(name), "content").unwrap();
    }
    let sweeper = fixture.sweeper();
    fixture.pass(DAY / 2);
    assert_eq!(fixture.store.sweep(&sweeper).await.unwrap(), 0);
    fixture.pass(DAY);
    assert_eq!(fixture.store.sweep(&sweeper).await.unwrap(), 2);
    let there = |name: &str| fixture.content(name).exists();
    assert!(there(&known) && there("README"));
    assert!(!there(&unseen) && !there(&partial));
    let refused = fixture.store.sweep(&alice).await;
    assert!(matches!(refused, Err(Error::Forbidden)));
}

#[tokio::test]
async fn the_write_ahead_log_can_be_emptied_while_a_sweep_of_much_content_goes_on() {
    const MUCH: u64 = 2_000;
    let fixture = Fixture::embedded();
    for number in 0..MUCH {
        let name = FileId::from_parts(1, number.into()).to_string();
        std::fs::write(fixture.content(&name), "").unwrap();
    }
    fixture.pass(2 * DAY);
    let database = Connection::open(fixture.dir().join("netra.db")).unwrap();
    let is_emptied = || {
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        let busy = database.query_row(sql, [], |row| row.get::<_, i64>(0));
        busy.unwrap() == 0
    };
    let sweeper = fixture.sweeper();
    let mut sweep = pin!(fixture.store.sweep(&sweeper));
    // Each time that a stage of the sweep is done, and before the next one begins.
    let mut midway = 0;
    let swept = poll_fn(|context| {
        let left = fixture.contents() as u64;
        if 0 < left && left < MUCH {
            assert!(is_emptied(), "a snapshot is held with {left} left");
            midway += 1;
        }
        sweep.as_mut().poll(context)
    });
    assert_eq!(swept.await.unwrap() as u64, MUCH);
    assert!(midway > 2, "all was done in one go");
    assert_eq!(fixture.contents(), 0);
}

#[tokio::test]
async fn a_file_whose_content_is_gone_already_is_deleted_like_any_other() {
    let fixture = Fixture::new();
    let alice = fixture.user("alice").await;
    let id = fixture.upload(&alice).await.finish(None).await.unwrap();
    let id = id.value.id;
    std::fs::remove_file(fixture.content(&id.to_string())).unwrap();
    let file = fixture.store.file(&alice, id).for_write().await.unwrap();
    fixture.store.file_delete(&alice, file).await.unwrap();
    let gone = fixture.store.file(&alice, id).for_read().await;
    assert!(matches!(gone, Err(Error::NotFound)));
}
