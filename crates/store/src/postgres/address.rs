//! Where the database is, and who connects: a URL as `psql` takes it.

use std::path::PathBuf;

use netra_context::Secret;

use crate::error::Error;

/// Who connects to which database where.
#[derive(Clone)]
pub struct Address {
    pub(super) place: Place,
    pub(super) user: String,
    pub(super) password: Option<Secret>,
    pub(super) database: String,
}

/// A server, by its address or by its socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Tcp(String, u16),
    Unix(PathBuf),
}

const PORT: u16 = 5432;

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Address")
            .field("place", &self.place)
            .field("user", &self.user)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

impl Address {
    /// Reads `postgres://user:password@host:port/database`; of a folder with a socket, the host is that folder with its
    /// slashes as `%2F`.
    ///
    /// # Errors
    /// `Unavailable`, with what is wrong with the URL, and without the URL.
    pub fn parse(url: &str) -> Result<Self, Error> {
        let wrong = |why: &str| {
            Error::Unavailable(format!(
                "the database's URL {why}; it is postgres://user:password@host:port/database"
            ))
        };
        let url =
            url::Url::parse(url).map_err(|error| wrong(&format!("cannot be read ({error})")))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(wrong("is not one of PostgreSQL"));
        }
        for (key, value) in url.query_pairs() {
            match (&*key, &*value) {
                ("sslmode", "disable" | "prefer" | "allow") => {}
                ("sslmode", _) => {
                    return Err(wrong(
                        "asks for TLS, which netra does not speak with databases yet: use a socket, or a network that is private",
                    ));
                }
                _ => {
                    return Err(wrong(&format!(
                        "has the parameter `{key}`, which is not known"
                    )));
                }
            }
        }
        let decoded = |text: &str| {
            let bytes = percent_encoding::percent_decode_str(text);
            bytes
                .decode_utf8()
                .map(|text| text.into_owned())
                .map_err(|_| wrong("is not UTF-8"))
        };
        let host = decoded(url.host_str().unwrap_or("localhost"))?;
        let port = url.port().unwrap_or(PORT);
        let place = if host.starts_with('/') {
            Place::Unix(PathBuf::from(host).join(format!(".s.PGSQL.{port}")))
        } else {
            Place::Tcp(host.trim_matches(['[', ']']).to_owned(), port)
        };
        let user = decoded(url.username())?;
        let database = decoded(url.path().trim_start_matches('/'))?;
        if user.is_empty() || database.is_empty() {
            return Err(wrong("names no user or no database"));
        }
        let password = url.password().map(decoded).transpose()?;
        Ok(Self {
            place,
            user,
            password: password.map(Secret::new),
            database,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_server_or_a_socket() {
        let tcp = Address::parse("postgres://netra:p%40ss@db.example:6432/app").unwrap();
        assert_eq!(tcp.place, Place::Tcp("db.example".into(), 6432));
        assert_eq!((&*tcp.user, &*tcp.database), ("netra", "app"));
        assert_eq!(tcp.password.as_ref().map(Secret::expose), Some("p@ss"));
        assert!(!format!("{tcp:?}").contains("p@ss"));
        let unix = Address::parse("postgresql://netra@%2Frun%2Fpg/app").unwrap();
        assert_eq!(unix.place, Place::Unix("/run/pg/.s.PGSQL.5432".into()));
        let six = Address::parse("postgres://netra@[::1]/app").unwrap();
        assert_eq!(six.place, Place::Tcp("::1".into(), 5432));
    }

    #[test]
    fn what_is_no_such_url_is_refused_without_being_shown() {
        for bad in [
            "",
            "netra",
            "mysql://u:hidden@h/d",
            "postgres://u:hidden@h",
            "postgres://h/d",
            "postgres://u:hidden@h/d?sslmode=require",
            "postgres://u:hidden@h/d?frob=1",
        ] {
            let refused = Address::parse(bad).unwrap_err().to_string();
            assert!(!refused.contains("hidden"), "{refused}");
        }
    }
}
