//! The migrations of the embedded store.

use crate::error::Error;
use crate::migration::{self, Migration};
use crate::sql::Connection;

/// Every migration, in order. Only ever append.
const MIGRATIONS: &[Migration] = &[
    ("first", include_str!("../migrations/0001_first.sql")),
    ("resume", include_str!("../migrations/0002_resume.sql")),
    ("keys", include_str!("../migrations/0003_keys.sql")),
    (
        "audit_chain",
        include_str!("../migrations/0004_audit_chain.sql"),
    ),
    ("notes", include_str!("../migrations/0005_notes.sql")),
    ("limits", include_str!("../migrations/0006_limits.sql")),
    ("secrets", include_str!("../migrations/0007_secrets.sql")),
    ("budgets", include_str!("../migrations/0008_budgets.sql")),
    (
        "tool_servers",
        include_str!("../migrations/0009_tool_servers.sql"),
    ),
    ("accounts", include_str!("../migrations/0010_accounts.sql")),
    (
        "departures",
        include_str!("../migrations/0011_departures.sql"),
    ),
    ("logins", include_str!("../migrations/0012_logins.sql")),
    (
        "tool_usage",
        include_str!("../migrations/0013_tool_usage.sql"),
    ),
    ("nodes", include_str!("../migrations/0014_nodes.sql")),
    ("queue", include_str!("../migrations/0015_queue.sql")),
];

/// Brings the schema up to date and returns its version. Another process that does the same waits.
pub(crate) fn up(connection: &Connection) -> Result<u32, Error> {
    apply(connection, MIGRATIONS)
}

fn apply(connection: &Connection, migrations: &[Migration]) -> Result<u32, Error> {
    connection.batch("BEGIN IMMEDIATE")?;
    let applied = migration::apply(connection, migrations);
    connection.batch(if applied.is_ok() {
        "COMMIT"
    } else {
        "ROLLBACK"
    })?;
    applied
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::FromSql;

    fn memory() -> Connection {
        Connection::Sqlite(rusqlite::Connection::open_in_memory().unwrap())
    }

    fn one<T: FromSql>(connection: &Connection, sql: &str) -> T {
        let mut statement = connection.prepare_cached(sql).unwrap();
        statement.query_row([], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_second_start_changes_nothing() {
        let connection = memory();
        up(&connection).unwrap();
        let epoch =
            |c: &Connection| -> String { one(c, "SELECT value FROM meta WHERE key = 'epoch'") };
        let before = epoch(&connection);
        up(&connection).unwrap();
        assert_eq!(epoch(&connection), before);
    }

    #[test]
    fn a_newer_schema_is_refused_and_the_message_says_what_to_do() {
        let connection = memory();
        up(&connection).unwrap();
        connection
            .batch("INSERT INTO migrations VALUES (99, 'later', '')")
            .unwrap();
        let error = up(&connection).unwrap_err().to_string();
        assert!(
            error.contains("version 99") && error.contains("newer program"),
            "{error}"
        );
    }

    #[test]
    fn a_changed_migration_is_refused() {
        let connection = memory();
        up(&connection).unwrap();
        connection
            .batch("UPDATE migrations SET sha256 = 'other'")
            .unwrap();
        assert!(matches!(up(&connection), Err(Error::Migration(_))));
    }

    #[test]
    fn a_limit_that_is_nobodys_any_more_is_forgotten_wherever_it_stands() {
        let connection = memory();
        let before = MIGRATIONS.iter().position(|(name, _)| *name == "logins");
        apply(&connection, &MIGRATIONS[..before.unwrap()]).unwrap();
        let stored = r#"{"steps":7,"logins_per_minute":9}"#;
        let answer = format!(r#"{{"id":"u","limits":{stored}}}"#);
        let changes = [
            format!("INSERT INTO plans VALUES ('free', '{stored}')"),
            format!(
                "INSERT INTO users (id, name, role, plan, created_at, limits)
                 VALUES (x'01', 'ada', 'user', 'free', 1, '{stored}')"
            ),
            format!(
                "INSERT INTO idempotency (user_id, key, operation, body_hash, answer, created_at)
                 VALUES (x'01', 'k', 'admin_user_create', x'00', '{answer}', 1)"
            ),
        ];
        connection.batch(&changes.join(";")).unwrap();
        up(&connection).unwrap();
        for (of, left) in [
            ("SELECT limits FROM plans", r#"{"steps":7}"#),
            ("SELECT limits FROM users", r#"{"steps":7}"#),
            (
                "SELECT answer FROM idempotency",
                r#"{"id":"u","limits":{"steps":7}}"#,
            ),
        ] {
            let text: String = one(&connection, of);
            assert_eq!(text, left, "{of}");
        }
    }

    #[test]
    fn a_migration_that_breaks_off_leaves_nothing_behind() {
        let connection = memory();
        let broken = [
            MIGRATIONS[0],
            ("broken", "CREATE TABLE half (a INTEGER); SELECT nonsense"),
        ];
        assert!(matches!(
            apply(&connection, &broken),
            Err(Error::Migration(_))
        ));
        let tables: u32 = one(
            &connection,
            "SELECT count(*) FROM sqlite_master WHERE type = 'table'",
        );
        assert_eq!(tables, 0);
        assert_eq!(up(&connection).unwrap() as usize, MIGRATIONS.len());
    }
}
