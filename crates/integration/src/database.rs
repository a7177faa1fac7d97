//! The same tests on PostgreSQL: where `NETRA_TEST_POSTGRES` names a server (`cargo xtask test postgres` starts one), each
//! data folder has a database of its own there.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

const VARIABLE: &str = "NETRA_TEST_POSTGRES";

/// The variables that put a folder's rows where the tests are to have them; none for SQLite.
pub(crate) fn settings(data: &Path) -> Result<Vec<(String, String)>> {
    #[expect(
        clippy::disallowed_methods,
        reason = "who runs the tests says on which database"
    )]
    let Ok(server) = std::env::var(VARIABLE) else {
        return Ok(Vec::new());
    };
    let mut hash = DefaultHasher::new();
    data.hash(&mut hash);
    let name = format!("it{:016x}", hash.finish());
    create(&server, &name)?;
    let app = server.replacen("netra_owner", "netra_app", 1);
    Ok(vec![
        ("NETRA__DATABASE__URL".into(), format!("{app}/{name}")),
        (
            "NETRA__DATABASE__OWNER_URL".into(),
            format!("{server}/{name}"),
        ),
        ("NETRA__DATABASE__CONNECTIONS".into(), "6".into()),
    ])
}

/// Makes a database that is not there yet.
fn create(server: &str, name: &str) -> Result<()> {
    let mut psql = Command::new("psql");
    psql.args(["-X", "-q", "-d", &format!("{server}/postgres")]);
    let sql = format!("CREATE DATABASE {name}");
    let out = psql
        .args(["-c", &sql])
        .output()
        .context("psql is missing")?;
    let said = String::from_utf8_lossy(&out.stderr);
    if !out.status.success() && !said.contains("already exists") {
        bail!("{said}");
    }
    Ok(())
}
