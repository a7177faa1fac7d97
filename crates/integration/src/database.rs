//! The same tests on PostgreSQL: where `NETRA_TEST_POSTGRES` names a server (`cargo xtask test postgres` starts one), each
//! data folder has a database of its own there.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

const VARIABLE: &str = "NETRA_TEST_POSTGRES";

/// The variables that put a folder's rows where the tests are to have them; none for SQLite.
///
/// # Errors
/// When its database cannot be made.
pub fn settings(data: &Path) -> Result<Vec<(String, String)>> {
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

/// Makes a database that is not there yet.
fn create(server: &str, name: &str) -> Result<()> {
    match psql(
        &format!("{server}/postgres"),
        &format!("CREATE DATABASE {name}"),
    ) {
        Err(error) if !error.to_string().contains("already exists") => Err(error),
        _ => Ok(()),
    }
}

/// What a folder's database tells the role as which its server works: lines with `|` between columns.
///
/// # Errors
/// What the database says against it, or that the tests are of SQLite.
pub fn raw_sql(data: &Path, sql: &str) -> Result<String> {
    let server = server()
        .with_context(|| format!("{VARIABLE} names no server: `cargo xtask test postgres` does"))?;
    psql(&url_of_app(&server, &name(data)), sql)
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
