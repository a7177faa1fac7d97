//! Migrations: forward only, each in one transaction together with its record.

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};
use sha2::{Digest as _, Sha256};

use crate::error::Error;

/// Every migration, in order. Only ever append.
const MIGRATIONS: &[(&str, &str)] = &[
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
];

const RECORDS: &str = "CREATE TABLE IF NOT EXISTS migrations (
    version    INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    sha256     TEXT NOT NULL
) STRICT";

/// Brings the schema up to date and returns its version. Another process that does the same waits.
pub(crate) fn up(connection: &mut Connection) -> Result<u32, Error> {
    apply(connection, MIGRATIONS)
}

fn apply(connection: &mut Connection, migrations: &[(&str, &str)]) -> Result<u32, Error> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(RECORDS)?;
    let known = u32::try_from(migrations.len()).map_err(|_| Error::corrupt("version"))?;
    refuse_newer(&tx, known)?;
    for (version, (name, sql)) in (1_u32..).zip(migrations) {
        if !recorded(&tx, version, name, sql)? {
            run(&tx, version, name, sql)?;
        }
    }
    make_epoch(&tx)?;
    tx.commit()?;
    Ok(known)
}

fn refuse_newer(tx: &Transaction<'_>, known: u32) -> Result<(), Error> {
    let found: Option<u32> =
        tx.query_row("SELECT max(version) FROM migrations", [], |row| row.get(0))?;
    match found {
        Some(found) if found > known => Err(Error::Migration(format!(
            "the data folder has schema version {found}, this program knows versions up to \
             {known}: start the newer program, or restore a backup from before the upgrade"
        ))),
        _ => Ok(()),
    }
}

fn recorded(tx: &Transaction<'_>, version: u32, name: &str, sql: &str) -> Result<bool, Error> {
    let found: Option<String> = tx
        .query_row(
            "SELECT sha256 FROM migrations WHERE version = ?1",
            [version],
            |row| row.get(0),
        )
        .optional()?;
    match found {
        None => Ok(false),
        Some(sha256) if sha256 == fingerprint(sql) => Ok(true),
        Some(_) => Err(Error::Migration(format!(
            "migration {version} ({name}) of the data folder differs from this program's: the \
             folder was made by another build; restore a backup or start that build"
        ))),
    }
}

fn run(tx: &Transaction<'_>, version: u32, name: &str, sql: &str) -> Result<(), Error> {
    tx.execute_batch(sql).map_err(|error| {
        Error::Migration(format!(
            "migration {version} ({name}) failed and was taken back whole, nothing is lost: {error}"
        ))
    })?;
    tx.execute(
        "INSERT INTO migrations (version, name, sha256) VALUES (?1, ?2, ?3)",
        (version, name, fingerprint(sql)),
    )?;
    Ok(())
}

fn fingerprint(sql: &str) -> String {
    crate::cursor::write(&Sha256::digest(sql))
}

/// The log's name is made once, with the database.
fn make_epoch(tx: &Transaction<'_>) -> Result<(), Error> {
    let epoch = crate::cursor::write(&rand::random::<[u8; 8]>());
    tx.execute(
        "INSERT OR IGNORE INTO meta (key, value) VALUES ('epoch', ?1)",
        [epoch],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Connection {
        Connection::open_in_memory().unwrap()
    }

    #[test]
    fn a_second_start_changes_nothing() {
        let mut connection = memory();
        up(&mut connection).unwrap();
        let epoch = |c: &Connection| -> String {
            c.query_row("SELECT value FROM meta WHERE key = 'epoch'", [], |r| {
                r.get(0)
            })
            .unwrap()
        };
        let before = epoch(&connection);
        up(&mut connection).unwrap();
        assert_eq!(epoch(&connection), before);
    }

    #[test]
    fn a_newer_schema_is_refused_and_the_message_says_what_to_do() {
        let mut connection = memory();
        up(&mut connection).unwrap();
        connection
            .execute("INSERT INTO migrations VALUES (99, 'later', '')", [])
            .unwrap();
        let error = up(&mut connection).unwrap_err().to_string();
        assert!(
            error.contains("version 99") && error.contains("newer program"),
            "{error}"
        );
    }

    #[test]
    fn a_changed_migration_is_refused() {
        let mut connection = memory();
        up(&mut connection).unwrap();
        connection
            .execute("UPDATE migrations SET sha256 = 'other'", [])
            .unwrap();
        assert!(matches!(up(&mut connection), Err(Error::Migration(_))));
    }

    #[test]
    fn a_limit_that_is_nobodys_any_more_is_forgotten_wherever_it_stands() {
        let mut connection = memory();
        let before = MIGRATIONS.iter().position(|(name, _)| *name == "logins");
        apply(&mut connection, &MIGRATIONS[..before.unwrap()]).unwrap();
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
        connection.execute_batch(&changes.join(";")).unwrap();
        up(&mut connection).unwrap();
        for (of, left) in [
            ("SELECT limits FROM plans", r#"{"steps":7}"#),
            ("SELECT limits FROM users", r#"{"steps":7}"#),
            (
                "SELECT answer FROM idempotency",
                r#"{"id":"u","limits":{"steps":7}}"#,
            ),
        ] {
            let text: String = connection.query_row(of, [], |row| row.get(0)).unwrap();
            assert_eq!(text, left, "{of}");
        }
    }

    #[test]
    fn a_migration_that_breaks_off_leaves_nothing_behind() {
        let mut connection = memory();
        let broken = [
            MIGRATIONS[0],
            ("broken", "CREATE TABLE half (a INTEGER); SELECT nonsense"),
        ];
        assert!(matches!(
            apply(&mut connection, &broken),
            Err(Error::Migration(_))
        ));
        let tables: u32 = connection
            .query_row(
                "SELECT count(*) FROM sqlite_master WHERE type = 'table'",
                [],
                |r| r.get(0),
            )
            .unwrap();
        assert_eq!(tables, 0);
        assert_eq!(up(&mut connection).unwrap() as usize, MIGRATIONS.len());
    }
}
