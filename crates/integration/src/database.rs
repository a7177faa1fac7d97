//! The same tests on PostgreSQL: where `NETRA_TEST_POSTGRES` names a server (`cargo xtask test postgres` starts one), each
//! data folder has a database of its own there.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use netra_store::{Address, Postgres, Store};

const VARIABLE: &str = "NETRA_TEST_POSTGRES";
/// What the databases are copied from: an empty one with the schema. Bringing that up for each costs more.
const TEMPLATE: &str = "netra_template";

/// The variables that put a folder's rows where the tests are to have them; none for SQLite.
pub(crate) fn settings(data: &Path) -> Result<Vec<(String, String)>> {
    let Some(server) = server() else {
        return Ok(Vec::new());
    };
    let name = name(data);
    create(&server, &name)?;
    Ok(vec![
        ("NETRA__DATABASE__URL".into(), url_of_app(&server, &name)),
        (
            "NETRA__DATABASE__OWNER_URL".into(),
            format!("{server}/{name}"),
        ),
        ("NETRA__DATABASE__CONNECTIONS".into(), "6".into()),
    ])
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

fn server_or_error() -> Result<String> {
    server().with_context(|| {
        format!("{VARIABLE} names no server: `cargo xtask test postgres` starts one")
    })
}

/// Makes a database that is not there yet: a copy of one that has the schema already.
fn create(server: &str, name: &str) -> Result<()> {
    let copy = format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE}");
    match maintain(server, &copy)? {
        Said::Missing => {
            make_template(server)?;
            match maintain(server, &copy)? {
                Said::Missing => bail!("{TEMPLATE} has vanished"),
                Said::Done | Said::Exists => Ok(()),
            }
        }
        Said::Done | Said::Exists => Ok(()),
    }
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
    })?;
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
