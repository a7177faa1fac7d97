//! The database of a fixture: SQLite in its folder, or one of its own on the PostgreSQL server that
//! `NETRA_TEST_POSTGRES` names. `cargo xtask test postgres` starts one and runs these same tests on it.
//!
//! The variable is `postgres://netra_owner@host:port`: a role that makes databases. The role `netra_app` is the server's.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use netra_store::{Address, Postgres};

use crate::between::{Between, Strips};

const VARIABLE: &str = "NETRA_TEST_POSTGRES";
/// Where it is set, every store is stripped ([`Server::set_between`]).
const STRIPPED: &str = "NETRA_TEST_STRIPPED";

/// A database that goes with its fixture.
pub(crate) struct Server {
    url: String,
    name: String,
    between: Option<Between>,
}

impl Server {
    /// None where the tests are of SQLite.
    pub(crate) fn of_environment() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        #[expect(
            clippy::disallowed_methods,
            reason = "who runs the tests says on which database"
        )]
        let variable = |name| std::env::var(name).ok();
        let (url, is_stripped) = (variable(VARIABLE)?, variable(STRIPPED).is_some());
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{}_{number}", std::process::id());
        let mut server = Self {
            url,
            name,
            between: None,
        };
        server
            .psql(
                "netra_owner",
                "postgres",
                &format!("CREATE DATABASE {}", server.name),
            )
            .unwrap();
        if is_stripped {
            server.set_between(Some(Strips(true)));
        }
        Some(server)
    }

    /// Who stands between the server and stores that are opened from now on.
    pub(crate) fn set_between(&mut self, strips: Option<Strips>) {
        let (_, place) = self.url.split_once('@').unwrap();
        self.between = strips.map(|strips| Between::start(place, strips));
    }

    pub(crate) fn between(&self) -> &Between {
        self.between.as_ref().unwrap()
    }

    fn address(&self, role: &str, database: &str) -> String {
        let url = self.url.replacen("netra_owner", role, 1);
        format!("{url}/{database}")
    }

    pub(crate) fn config(&self) -> Postgres {
        let address = |url: &str| Address::parse(url).unwrap();
        let app = match &self.between {
            None => self.address("netra_app", &self.name),
            Some(between) => format!(
                "postgres://netra_app@127.0.0.1:{}/{}",
                between.port(),
                self.name
            ),
        };
        Postgres {
            server: address(&app),
            owner: Some(address(&self.address("netra_owner", &self.name))),
            connections: 8,
            lease: Duration::from_secs(10),
            redis: None,
        }
    }

    /// What statements give, as lines with `|` between columns; or what the server says against them.
    fn psql(&self, role: &str, database: &str, sql: &str) -> Result<String, String> {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d"]);
        let out = psql
            .arg(self.address(role, database))
            .args(["-c", sql])
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if out.status.success() {
            Ok(text(&out.stdout))
        } else {
            Err(text(&out.stderr))
        }
    }

    /// A session of the server's role that has carried this out and goes on until it is dropped.
    pub(crate) fn session(&self, sql: &str) -> Session {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-A", "-t", "-d"]);
        psql.arg(self.address("netra_app", &self.name));
        psql.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = psql.spawn().unwrap();
        let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        writeln!(input, "{sql}; SELECT 'done';").unwrap();
        let mut said = String::new();
        while !said.ends_with("done\n") {
            let mut byte = [0];
            output.read_exact(&mut byte).unwrap();
            said.push(byte[0].into());
        }
        Session {
            input: Some(input),
            child,
        }
    }

    /// As the server's role, which sees nobody's rows until it says whose.
    pub(crate) fn as_app(&self, sql: &str) -> Result<String, String> {
        self.psql("netra_app", &self.name, sql)
    }

    /// As the owner of the tables.
    pub(crate) fn as_owner(&self, sql: &str) -> Result<String, String> {
        self.psql("netra_owner", &self.name, sql)
    }

    /// All rows of all tables as text, for what must not be there.
    fn text(&self) -> String {
        let tables = "SELECT string_agg(format('TABLE %I', relname), '; ') FROM pg_class
                      WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = 'public'::regnamespace";
        let all = self.as_owner(tables).unwrap();
        self.as_owner(&format!("SET netra.everybody = 'on'; {all}"))
            .unwrap()
    }
}

/// Another program's session.
pub(crate) struct Session {
    input: Option<ChildStdin>,
    child: Child,
}

impl Drop for Session {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.input.take());
        self.child.wait().ok();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        self.psql("netra_owner", "postgres", &drop).ok();
    }
}

/// What another program does to the database.
pub(crate) fn change(server: Option<&Server>, dir: &Path, sql: &str) {
    match server {
        Some(server) => drop(
            server
                .as_owner(&format!("SET netra.everybody = 'on'; {sql}"))
                .unwrap(),
        ),
        None => {
            let database = rusqlite::Connection::open(dir.join("netra.db")).unwrap();
            database.execute_batch(sql).unwrap();
        }
    }
}

/// What another program reads there: lines with `|` between columns.
pub(crate) fn read(server: Option<&Server>, dir: &Path, sql: &str) -> Vec<String> {
    match server {
        Some(server) => {
            let text = server
                .as_owner(&format!("SET netra.everybody = 'on'; {sql}"))
                .unwrap();
            text.lines().map(str::to_owned).collect()
        }
        None => {
            let database = rusqlite::Connection::open(dir.join("netra.db")).unwrap();
            let mut statement = database.prepare(sql).unwrap();
            let columns = statement.column_count();
            let rows = statement.query_map([], |row| {
                let cell = |column| match row.get_ref(column)? {
                    rusqlite::types::ValueRef::Integer(number) => Ok(number.to_string()),
                    other => Ok(other.as_str().unwrap_or_default().to_owned()),
                };
                let cells = (0..columns).map(cell).collect::<rusqlite::Result<Vec<_>>>();
                Ok(cells?.join("|"))
            });
            rows.unwrap().collect::<Result<_, _>>().unwrap()
        }
    }
}

/// Everything that the database holds.
pub(crate) fn bytes(server: Option<&Server>, dir: &Path) -> Vec<u8> {
    let file = |name: &str| std::fs::read(dir.join(name)).unwrap_or_default();
    match server {
        Some(server) => server.text().into_bytes(),
        None => [file("netra.db"), file("netra.db-wal")].concat(),
    }
}
