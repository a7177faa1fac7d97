//! What only a database server has: a schema that is to be the same as the embedded one, connections that break, and
//! several programs that begin at once.

use std::collections::BTreeSet;

use futures::FutureExt as _;
use futures::future::join_all;
use netra_store::{AuditKey, Changes, Config, Error, Store};

use crate::fixture::Fixture;

/// What one of the databases has and the other need not.
const OF_ONE: [&str; 4] = [
    "logs.appended_at",
    "notes.words",
    "sqlite_sequence",
    "note_words",
];

/// A migration of one backend alone would go unseen until a statement meets what is missing.
#[tokio::test]
async fn both_databases_have_the_same_tables_and_columns() {
    let fixture = Fixture::on_postgres();
    let dir = tempfile::tempdir().unwrap();
    Store::migrate(dir.path()).unwrap();
    let sql = "SELECT m.name || '.' || c.name FROM sqlite_master m, pragma_table_info(m.name) c
               WHERE m.type = 'table'";
    let embedded = crate::backend::read(None, dir.path(), sql);
    let sql = "SELECT c.relname || '.' || a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
               WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
                 AND c.relnamespace = 'public'::regnamespace";
    let served = fixture.rows(sql);
    let of_both = |names: Vec<String>| -> BTreeSet<String> {
        let is_of_both = |name: &String| !OF_ONE.iter().any(|one| name.starts_with(one));
        names.into_iter().filter(is_of_both).collect()
    };
    assert!(served.len() > 100);
    assert_eq!(of_both(embedded), of_both(served));
}

/// As in the embedded store: what is written with a row that is guarded itself needs no guard, and all else has one.
#[tokio::test]
async fn the_same_tables_refuse_rows_of_users_who_are_gone_as_in_the_embedded_store() {
    let fixture = Fixture::on_postgres();
    let dir = tempfile::tempdir().unwrap();
    Store::migrate(dir.path()).unwrap();
    let sql =
        "SELECT DISTINCT tbl_name FROM sqlite_master WHERE type = 'trigger' AND sql LIKE '%RAISE%'";
    let embedded = crate::backend::read(None, dir.path(), sql);
    let sql = "SELECT DISTINCT c.relname FROM pg_class c JOIN pg_trigger t ON t.tgrelid = c.oid
               WHERE NOT t.tgisinternal";
    let guarded = |names: Vec<String>| names.into_iter().collect::<BTreeSet<_>>();
    let served = guarded(fixture.rows(sql));
    assert!(served.contains("runs"));
    assert_eq!(guarded(embedded), served);
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_is_not_used_again() {
    let fixture = Fixture::on_postgres();
    let alice = fixture.user("alice").await;
    let run = fixture.run(&alice).await;
    let closed = fixture
        .server()
        .unwrap()
        .as_app(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
             WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()",
        )
        .unwrap();
    assert_ne!(closed, "0");
    let events = vec![fixture.thought(&run, "still here")];
    fixture
        .store
        .commit(&alice, &run, Changes::default(), events)
        .await
        .unwrap();
    assert_eq!(fixture.store.latest_seq(&alice).await.unwrap(), 1);
}

/// Each brought an empty database up to date, and one of them failed on what the other had made.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_servers_may_begin_at_once_on_an_empty_database() {
    let fixture = Fixture::on_postgres();
    let server = fixture.server().unwrap();
    server
        .as_owner("DROP OWNED BY netra_owner; GRANT ALL ON SCHEMA public TO netra_owner")
        .unwrap();
    let config = server.config();
    let versions: Vec<u32> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| Store::migrate_on(&config)))
            .collect();
        let versions = all.into_iter().map(|one| one.join().unwrap().unwrap());
        versions.collect()
    });
    let newest = server.as_owner("SELECT count(*) FROM migrations").unwrap();
    assert_eq!(versions, [newest.parse::<u32>().unwrap(); 4]);
}

#[tokio::test]
async fn a_server_that_may_not_migrate_says_what_is_missing() {
    let fixture = Fixture::on_postgres();
    let server = fixture.server().unwrap();
    server.as_owner("DELETE FROM migrations").unwrap();
    let mut config = server.config();
    config.owner = None;
    let dir = tempfile::tempdir().unwrap();
    let store = Config {
        dir: dir.path().to_owned(),
        audit_key: AuditKey::new([7; 32]),
        turn_wait: netra_store::TURN_WAIT,
    };
    let refused = Store::open_on(&fixture.runtime, store, &config, fixture.seen.clone());
    assert!(matches!(refused, Err(Error::Migration(why)) if why.contains("database.owner_url")));
}

/// As many works as there are connections wait for a lock, and one more for a connection.
#[tokio::test]
async fn a_database_that_lets_nobody_write_is_overloaded_until_it_does() {
    let fixture = Fixture::on_postgres();
    let mut users = Vec::new();
    for number in 0..=fixture.server().unwrap().config().connections {
        users.push(fixture.user(&format!("user-{number}")).await);
    }
    // What the server's own transactions hold, and all others wait for.
    let lock = "SELECT pg_advisory_lock(x'6e657472'::int, 1)";
    let lock = fixture.server().unwrap().session(lock);
    let keep = |ctx| fixture.store.note_keep(ctx, "a".into(), "b".into());
    let mut writes = Box::pin(join_all(users.iter().map(keep)));
    assert!((&mut writes).now_or_never().is_none());
    while !fixture.store.is_overloaded(true) {
        tokio::task::yield_now().await;
    }
    assert!(!fixture.store.is_overloaded(false), "it can be read");
    drop(lock);
    for kept in writes.await {
        kept.unwrap();
    }
    assert!(!fixture.store.is_overloaded(true));
}

#[tokio::test]
async fn a_text_that_the_database_cannot_keep_is_the_callers_mistake() {
    let fixture = Fixture::on_postgres();
    let alice = fixture.user("alice").await;
    let kept = fixture
        .store
        .note_keep(&alice, "a\0b".into(), "text".into())
        .await;
    assert!(matches!(kept, Err(Error::Nul)));
    // In what was said it is escaped, and found around it.
    let mut new = fixture.new_run();
    new.input = serde_json::json!("before\0after \\u0000");
    let target = netra_store::Target::New {
        id: fixture
            .runtime
            .new_id(netra_protocol::id::ThreadId::from_parts),
        title: "t".into(),
    };
    fixture
        .store
        .run_create(&alice, target, new, None)
        .await
        .unwrap();
    for (word, found) in [("BEFORE", 1), ("after", 1), ("beforeafter", 0)] {
        let page = fixture
            .store
            .threads(&alice, Some(word), 9, None)
            .await
            .unwrap();
        assert_eq!(page.items.len(), found, "{word}");
    }
}
