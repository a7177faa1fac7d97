//! The same tests on PostgreSQL: where `NETRA_TEST_POSTGRES` names a server (`cargo xtask test postgres` starts one), each
//! data folder has a database of its own there.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use netra::config::{Config, Layers};
use netra_store::{Address, Postgres, Store};

const VARIABLE: &str = "NETRA_TEST_POSTGRES";
/// What the databases are copied from: an empty one with the schema. Bringing that up for each costs more.
const TEMPLATE: &str = "netra_template";

/// The variables that put a folder's rows where the tests are to have them; none for SQLite.
///
/// # Errors
/// When its database cannot be made.
pub fn settings(data: &Path) -> Result<Vec<(String, String)>> {
    let Some(server) = server() else {
        return Ok(Vec::new());
    };
    let name = name(data);
    create(&server, data)?;
    Ok(vec![
        ("NETRA__DATABASE__URL".into(), url_of_app(&server, &name)),
        (
            "NETRA__DATABASE__OWNER_URL".into(),
            format!("{server}/{name}"),
        ),
    ])
}

/// The configuration of a data folder beside its server, with everything else as by default.
///
/// # Errors
/// Where its database cannot be made.
pub fn config_beside(data: &Path) -> Result<Config> {
    let folder = data.display().to_string();
    let layers = Layers::new().environment(settings(data)?);
    Ok(Config::load(layers.flag("data.dir", "data", folder))?)
}

/// The server that the tests are to have their databases on, as the owner of the tables.
#[expect(
    clippy::disallowed_methods,
    reason = "who runs the tests says on which database"
)]
fn server() -> Option<String> {
    std::env::var(VARIABLE).ok()
}

/// The name of a folder's database.
fn name(data: &Path) -> String {
    let mut hash = DefaultHasher::new();
    data.hash(&mut hash);
    format!("it{:016x}", hash.finish())
}

fn url_of_app(server: &str, name: &str) -> String {
    let app = server.replacen("netra_owner", "netra_app", 1);
    format!("{app}/{name}")
}

/// Takes a folder's database away, which nobody may be connected to any more. PostgreSQL itself waits a few seconds for
/// those who are about to go.
///
/// # Errors
/// That somebody still is, after about [`crate::PATIENCE`]; or that the tests are of SQLite.
pub fn drop_database(data: &Path) -> Result<()> {
    let (server, name) = (server_or_error()?, name(data));
    let mut last = Ok(());
    for _ in 0..6 {
        let said = psql(
            &format!("{server}/postgres"),
            &format!("DROP DATABASE {name}"),
        );
        match said {
            Err(error) if error.to_string().contains("being accessed") => last = Err(error),
            other => return other.map(drop),
        }
    }
    last
}

/// Whether the tests have their databases on PostgreSQL.
pub fn is_on_postgres() -> bool {
    server().is_some()
}

/// Changes rows of a folder's database behind its server's back, as the owner of the tables, which sees everybody's.
///
/// # Errors
/// What the database says against it, or that the tests are of SQLite.
pub fn change_rows(data: &Path, sql: &str) -> Result<()> {
    let url = format!("{}/{}", server_or_error()?, name(data));
    psql(&url, &format!("SET netra.everybody = 'on'; {sql}")).map(drop)
}

/// Copies a folder's database into a file as an operator does, whatever its server writes meanwhile.
///
/// # Errors
/// What `pg_dump` says against it, or that the tests are of SQLite.
pub async fn dump_database(data: &Path, file: &Path) -> Result<()> {
    // The owner is bound by row-level security too, and would not see the parts of tables at all.
    let server = server_or_error()?.replacen("netra_owner", "netra_backup", 1);
    let mut dump = tokio::process::Command::new("pg_dump");
    dump.args(["--format", "custom", "--file"]).arg(file);
    done(dump.arg(format!("{server}/{}", name(data)))).await
}

/// Makes a folder's database of such a file.
///
/// # Errors
/// What `pg_restore` says against it, or that the tests are of SQLite.
pub async fn restore_database(file: &Path, data: &Path) -> Result<()> {
    let (server, name) = (server_or_error()?, name(data));
    maintain(&server, &format!("CREATE DATABASE {name}"))?;
    let mut restore = tokio::process::Command::new("pg_restore");
    restore.args(["--exit-on-error", "--dbname", &format!("{server}/{name}")]);
    done(restore.arg(file)).await
}

async fn done(command: &mut tokio::process::Command) -> Result<()> {
    let out = command.output().await.context("PostgreSQL's programs")?;
    if !out.status.success() {
        bail!("{}", String::from_utf8_lossy(&out.stderr));
    }
    Ok(())
}

fn server_or_error() -> Result<String> {
    server().with_context(|| {
        format!("{VARIABLE} names no server: `cargo xtask test postgres` starts one")
    })
}

/// Makes a folder's database where it is not there yet: a copy of one that has the schema already.
fn create(server: &str, data: &Path) -> Result<()> {
    let name = name(data);
    let copy = format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE}");
    let said = match maintain(server, &copy)? {
        Said::Missing => {
            make_template(server)?;
            maintain(server, &copy)?
        }
        said => said,
    };
    match said {
        Said::Missing => bail!("{TEMPLATE} has vanished"),
        Said::Exists => Ok(()),
        Said::Done => {
            let folder = data.display();
            maintain(server, &format!("COMMENT ON DATABASE {name} IS '{folder}'"))?;
            drop_left(server)
        }
    }
}

/// Drops the databases of folders that are gone, before the disk has to keep them: a few megabytes for each test.
fn drop_left(server: &str) -> Result<()> {
    let maintenance = format!("{server}/postgres");
    let list = "SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database
                WHERE datname LIKE 'it%' AND shobj_description(oid, 'pg_database') IS NOT NULL";
    let listed = psql(&maintenance, list)?;
    for (name, folder) in listed.lines().filter_map(|line| line.split_once('|')) {
        if is_gone(Path::new(folder)) {
            // Another test may do it at the same moment.
            let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
            psql(&maintenance, &drop).ok();
        }
    }
    Ok(())
}

/// Whether nobody will use the folder any more: one in a test's folder may still have to be made.
fn is_gone(folder: &Path) -> bool {
    let temporary = std::env::temp_dir();
    let parent = folder.parent().filter(|parent| *parent != temporary);
    !folder.exists() && parent.is_none_or(|parent| !parent.exists())
}

/// Makes what other databases are copied from. It takes its name when it is whole, so that whoever is later copies
/// nothing unfinished, and of several at once the first counts.
fn make_template(server: &str) -> Result<()> {
    let making = format!("{TEMPLATE}_{:016x}", rand::random::<u64>());
    maintain(server, &format!("CREATE DATABASE {making}"))?;
    let address = |url: &str| Address::parse(url).map_err(anyhow::Error::msg);
    Store::migrate_on(&Postgres {
        server: address(&url_of_app(server, &making))?,
        owner: Some(address(&format!("{server}/{making}"))?),
        connections: 2,
        lease: Duration::from_secs(10),
        redis: None,
    })?;
    // Each copy gives its log a name of its own, as a new database does.
    psql(
        &format!("{server}/{making}"),
        "DELETE FROM meta WHERE key = 'epoch'",
    )?;
    let rename = format!("ALTER DATABASE {making} RENAME TO {TEMPLATE}");
    if let Said::Exists = maintain(server, &rename)? {
        maintain(server, &format!("DROP DATABASE {making}"))?;
    }
    Ok(())
}

/// What came of work on whole databases.
enum Said {
    Done,
    /// There is one of this name.
    Exists,
    /// There is none.
    Missing,
}

fn maintain(server: &str, sql: &str) -> Result<Said> {
    match psql(&format!("{server}/postgres"), sql) {
        Ok(_) => Ok(Said::Done),
        Err(error) => match error.to_string() {
            // The index says it where two make it at the same moment.
            said if said.contains("already exists") || said.contains("datname_index") => {
                Ok(Said::Exists)
            }
            said if said.contains("does not exist") => Ok(Said::Missing),
            _ => Err(error),
        },
    }
}

/// What a folder's database tells the role as which its server works: lines with `|` between columns.
///
/// # Errors
/// What the database says against it, or that the tests are of SQLite.
pub fn raw_sql(data: &Path, sql: &str) -> Result<String> {
    psql(&url_of_app(&server_or_error()?, &name(data)), sql)
}

fn psql(url: &str, sql: &str) -> Result<String> {
    let mut psql = Command::new("psql");
    psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url]);
    let out = psql.args(["-c", sql]).output().context("psql is missing")?;
    if !out.status.success() {
        bail!("{}", String::from_utf8_lossy(&out.stderr));
    }
    Ok(String::from_utf8(out.stdout)?)
}
