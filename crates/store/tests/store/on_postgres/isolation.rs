//! Row-level security: what raw SQL sees inside of one user's transaction, of another's, and of nobody's.

use netra_store::{Changes, Error, Postgres, Store};

use crate::backend::Server;
use crate::fixture::Fixture;

/// Every table with rows of users that the server's role can name, and how many of its rows it sees now.
const COUNTS: &str = "SELECT string_agg(format(
         'SELECT %L, count(*) FROM %I', relname, relname), ' UNION ALL ' ORDER BY relname)
     FROM pg_class c WHERE relkind IN ('r', 'p') AND NOT relispartition AND relrowsecurity
       AND relnamespace = 'public'::regnamespace";

pub(super) fn counts(server: &Server, set_up: &str) -> Vec<(String, u32)> {
    let all = server.as_app(COUNTS).unwrap();
    let sql = format!("BEGIN; {set_up}; SELECT * FROM ({all}) counted(name, seen) ORDER BY 1");
    let counted = server.as_app(&sql).unwrap();
    let lines = counted.lines().filter_map(|line| line.split_once('|'));
    lines
        .map(|(name, seen)| (name.to_owned(), seen.parse().unwrap()))
        .collect()
}

fn seen(counts: &[(String, u32)], table: &str) -> u32 {
    counts.iter().find(|(name, _)| name == table).unwrap().1
}

async fn two_users(fixture: &Fixture) -> [String; 2] {
    let mut ids = Vec::new();
    for name in ["alice", "bob"] {
        let ctx = fixture.user(name).await;
        let run = fixture.run(&ctx).await;
        let events = vec![fixture.thought(&run, "hm")];
        fixture
            .store
            .commit(&ctx, &run, Changes::default(), events)
            .await
            .unwrap();
        let later = fixture.runtime.now().plus_millis(60_000);
        let hash = [name.len() as u8; 32];
        let user = ctx.user_id().unwrap();
        fixture
            .store
            .session_create(&fixture.background(), user, hash, later)
            .await
            .unwrap();
        ids.push(
            user.to_bytes()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        );
    }
    ids.try_into().unwrap()
}

#[tokio::test]
async fn raw_sql_sees_one_users_rows_and_none_where_no_user_is_set() {
    let fixture = Fixture::on_postgres();
    let server = fixture.server().unwrap();
    let [alice, bob] = two_users(&fixture).await;
    let nobody = counts(server, "SELECT 1");
    assert!(nobody.len() > 20, "{nobody:?}");
    assert!(nobody.iter().all(|(_, seen)| *seen == 0), "{nobody:?}");
    for user in [&alice, &bob] {
        let of_user = counts(
            server,
            &format!("SELECT set_config('netra.user_id', '{user}', true)"),
        );
        for table in [
            "users",
            "threads",
            "runs",
            "messages",
            "events",
            "logs",
            "sessions",
            "refresh_tokens",
        ] {
            assert_eq!(seen(&of_user, table), 1, "{table}");
        }
    }
    let all = counts(server, "SELECT set_config('netra.everybody', 'on', true)");
    assert_eq!((seen(&all, "users"), seen(&all, "events")), (2, 2));
    // The setting goes with its transaction and reads as an empty text after it: that is nobody.
    let after = format!(
        "BEGIN; SELECT set_config('netra.user_id', '{alice}', true); COMMIT;
         SELECT current_setting('netra.user_id', true) = '', count(*) FROM runs"
    );
    assert!(server.as_app(&after).unwrap().ends_with("t|0"));
}

#[tokio::test]
async fn raw_sql_of_one_user_changes_nothing_of_another_and_gives_another_nothing() {
    let fixture = Fixture::on_postgres();
    let server = fixture.server().unwrap();
    let [alice, bob] = two_users(&fixture).await;
    let as_alice = |sql: &str| {
        server.as_app(&format!(
            "BEGIN; SELECT set_config('netra.user_id', '{alice}', true); {sql}; COMMIT"
        ))
    };
    as_alice("UPDATE threads SET title = 'taken'; DELETE FROM messages; DELETE FROM events")
        .unwrap();
    let titles = fixture.rows("SELECT title FROM threads ORDER BY title");
    assert_eq!(titles, ["t", "taken"]);
    for table in ["messages", "events"] {
        assert_eq!(
            fixture.rows(&format!("SELECT count(*) FROM {table}")),
            ["1"],
            "{table}"
        );
    }
    for sql in [
        format!("UPDATE threads SET user_id = '{bob}'"),
        format!("INSERT INTO usage_days VALUES ('{bob}', '2026-01-01', 1, 1, 1, 1, 1, 1)"),
    ] {
        let refused = as_alice(&sql).unwrap_err();
        assert!(refused.contains("row-level security"), "{refused}");
    }
}

#[tokio::test]
async fn the_servers_role_can_neither_pass_by_the_policies_nor_change_the_schema() {
    let fixture = Fixture::on_postgres();
    let server = fixture.server().unwrap();
    two_users(&fixture).await;
    for sql in [
        "ALTER TABLE runs DISABLE ROW LEVEL SECURITY",
        "DROP POLICY own ON runs",
        "CREATE TABLE mine (a int)",
        "SELECT * FROM events_0",
        "TRUNCATE runs",
        "UPDATE migrations SET version = 7",
        "SET ROLE netra_owner",
        "SET row_security = off; SELECT * FROM runs",
    ] {
        assert!(server.as_app(sql).is_err(), "{sql}");
    }
    // The owner of the tables is bound too, and no table of users lacks its policy.
    assert_eq!(server.as_owner("SELECT count(*) FROM runs").unwrap(), "0");
    let unbound = "SELECT string_agg(relname, ' ') FROM pg_class c WHERE relkind IN ('r', 'p')
         AND relnamespace = 'public'::regnamespace AND NOT (relrowsecurity AND relforcerowsecurity)";
    let mut unbound: Vec<String> = server
        .as_owner(unbound)
        .unwrap()
        .split(' ')
        .map(str::to_owned)
        .collect();
    unbound.sort();
    assert_eq!(
        unbound,
        ["agent_versions", "meta", "migrations", "nodes", "plans"]
    );
}

#[tokio::test]
async fn a_server_does_not_start_as_the_owner_of_the_tables() {
    let fixture = Fixture::on_postgres();
    let server = fixture.server().unwrap();
    let config = server.config();
    let as_owner = Postgres {
        server: config.owner.clone().unwrap(),
        owner: None,
        connections: 2,
        lease: config.lease,
        redis: None,
    };
    let dir = tempfile::tempdir().unwrap();
    let store = netra_store::Config {
        dir: dir.path().to_owned(),
        audit_key: netra_store::AuditKey::new([7; 32]),
        turn_wait: netra_store::TURN_WAIT,
    };
    let refused = Store::open_on(&fixture.runtime, store, &as_owner, fixture.seen.clone());
    assert!(matches!(refused, Err(Error::Migration(why)) if why.contains("owns the tables")));
}
