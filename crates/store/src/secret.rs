//! Secrets of users: sealed in the database, opened for the tools of their own user and for the places that they are
//! bound to, and never shown again.

mod keyring;
mod list;

use std::collections::BTreeMap;
use std::sync::Arc;

use netra_context::{BackgroundKind, Right, Secret, UserExecutionContext};
use netra_protocol::Timestamp;
use netra_protocol::id::UserId;
use netra_protocol::secret::SecretInfo;
use serde_json::json;

use crate::Store;
use crate::audit::{self, AuditRecord, Origin};
use crate::error::Error;
use crate::handle::Writable;
use crate::lookup::Lookup;
use crate::owner::{require, require_background};
use crate::sql::{self, Connection, OptionalExtension as _, Row};
use crate::transaction::Tx;

pub use keyring::{Keyring, KeyringError};

use keyring::Sealed;

/// The most secrets of one user.
pub const MAX_SECRETS: u32 = 100;
/// The least that a secret has, in bytes: less would be found in too much that has nothing to do with it.
pub const MIN_SECRET_BYTES: usize = 8;
/// How many are sealed anew in one transaction.
const BATCH: u32 = 100;
/// Names the key of the key file that secrets are sealed with from now on.
const KEY_IN_FORCE: &str = "secret_key";
/// What sealed values are bound to begins with this; another meaning of the bytes would have another number.
const BONDS: &[u8] = b"netra: secrets of users, 1";

/// What places begin with that are programs of the server. No port begins with a letter, as their names do.
const OF_PROGRAMS: &str = "mcp:";

const COLUMNS: &str = "name, places, created_at, updated_at";

const ELSEWHERE: Error = Error::Conflict("the secret is not bound to this place");

/// A secret to be kept.
#[derive(Debug)]
pub struct NewSecret {
    /// Stands for it among the user's secrets.
    pub name: String,
    /// The secret itself.
    pub value: Secret,
    /// Where tools may send it: hosts, or hosts with ports, as [`is_place`] takes them.
    pub places: Vec<String>,
}

/// A secret of the server, which all its users' tools may use, for the places that it is bound to.
#[derive(Debug)]
pub struct ServerSecret {
    /// The secret itself.
    pub value: Secret,
    /// As in [`NewSecret`].
    pub places: Vec<String>,
}

/// All secrets of the server, by name.
#[derive(Debug, Default)]
pub struct ServerSecrets(BTreeMap<String, ServerSecret>);

impl From<BTreeMap<String, ServerSecret>> for ServerSecrets {
    fn from(secrets: BTreeMap<String, ServerSecret>) -> Self {
        Self(secrets)
    }
}

impl ServerSecrets {
    /// Opens one for what is sent to this place.
    ///
    /// # Errors
    /// `NotFound` where there is none; `Conflict` where it is not bound to the place.
    pub fn reveal(&self, name: &str, place: &str) -> Result<Secret, Error> {
        match self.0.get(name) {
            None => Err(Error::NotFound),
            Some(found) if found.places.iter().any(|one| one == place) => Ok(found.value.clone()),
            Some(_) => Err(ELSEWHERE),
        }
    }
}

/// Whether a secret can be bound to this place: a host in lower case, with a port where that is not 443, or `mcp:` with the
/// name of a tool server that is a program.
pub fn is_place(text: &str) -> bool {
    if let Some(name) = text.strip_prefix(OF_PROGRAMS)
        && name.starts_with(|first: char| first.is_ascii_lowercase())
    {
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        return name.len() <= 64 && name.bytes().all(good);
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let good_port = |port: &str| {
        port.parse::<u16>()
            .is_ok_and(|number| number > 0 && number != 443 && number.to_string() == port)
    };
    let is_label = |label: &str| {
        let good =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        (1..=63).contains(&label.len()) && label.bytes().all(good)
    };
    let address = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let good_host = match address {
        Some(address) => {
            let read = address.parse::<std::net::Ipv6Addr>();
            read.is_ok_and(|read| read.to_string() == address)
        }
        None => host.len() <= 253 && host.split('.').all(is_label),
    };
    good_host && port.is_none_or(good_port)
}

/// Whether a secret can have this name: 1 to 64 letters, digits, `.`, `_` or `-`.
pub fn is_secret_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(good)
}

fn info(row: &Row<'_>) -> Result<SecretInfo, Error> {
    Ok(SecretInfo {
        name: row.get(0)?,
        hosts: serde_json::from_str(&row.get::<_, String>(1)?)?,
        created_at: Timestamp::from_micros(row.get(2)?),
        updated_at: Timestamp::from_micros(row.get(3)?),
    })
}

fn find(connection: &Connection, user: UserId, name: &str) -> Result<SecretInfo, Error> {
    let sql = format!("SELECT {COLUMNS} FROM secrets WHERE user_id = ?1 AND name = ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query((user.to_bytes(), name))?;
    rows.next()?.map_or(Err(Error::NotFound), |row| info(&row))
}

/// What a sealed value is bound to, each part with its length before it. `places` as stored.
fn bonds(user: UserId, name: &str, places: &str) -> Vec<u8> {
    let mut bonds = Vec::new();
    for part in [BONDS, &user.to_bytes(), name.as_bytes(), places.as_bytes()] {
        bonds.extend((part.len() as u64).to_be_bytes());
        bonds.extend(part);
    }
    bonds
}

fn key_in_force(connection: &Connection) -> Result<Option<String>, Error> {
    let sql = "SELECT value FROM meta WHERE key = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement
        .query_row([KEY_IN_FORCE], |row| row.get(0))
        .optional()?)
}

fn put_in_force(tx: &Tx<'_>, key_id: &str) -> Result<(), Error> {
    let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2)
               ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    tx.execute(sql, (KEY_IN_FORCE, key_id))?;
    Ok(())
}

/// A sealed value as its row has it.
struct Stored {
    user: UserId,
    name: String,
    places: String,
    sealed: Sealed,
}

impl Stored {
    fn read(row: &Row<'_>) -> sql::Result<Self> {
        Ok(Self {
            user: UserId::from_bytes(row.get(0)?),
            name: row.get(1)?,
            places: row.get(2)?,
            sealed: Sealed {
                key_id: row.get(3)?,
                bytes: row.get(4)?,
            },
        })
    }

    fn open(&self, keyring: &Keyring) -> Result<Secret, KeyringError> {
        keyring.open(&self.sealed, &bonds(self.user, &self.name, &self.places))
    }
}

/// Where a secret was found.
enum Found {
    Own(Stored),
    OfServer(Secret),
}

/// What became of a write that needs the key in force.
enum Kept {
    Done(SecretInfo),
    /// Another process has put another key in force.
    Outdated,
}

fn keep(tx: &Tx<'_>, origin: &Origin, stored: &Stored) -> Result<Kept, Error> {
    match key_in_force(tx.connection())? {
        Some(key_id) if key_id != stored.sealed.key_id => return Ok(Kept::Outdated),
        Some(_) => {}
        None => put_in_force(tx, &stored.sealed.key_id)?,
    }
    tx.execute(
        "INSERT INTO secrets (user_id, name, places, key_id, sealed, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
         ON CONFLICT (user_id, name) DO UPDATE
         SET places = excluded.places, key_id = excluded.key_id, sealed = excluded.sealed,
             updated_at = excluded.updated_at",
        (
            stored.user.to_bytes(),
            &stored.name,
            &stored.places,
            &stored.sealed.key_id,
            &stored.sealed.bytes,
            tx.now().as_micros(),
        ),
    )?;
    let sql = "SELECT count(*) FROM secrets WHERE user_id = ?1";
    let count: u32 = tx
        .prepare(sql)?
        .query_row([stored.user.to_bytes()], |row| row.get(0))?;
    if count > MAX_SECRETS {
        return Err(Error::Conflict(
            "a user has at most 100 secrets: delete one first",
        ));
    }
    let record = AuditRecord {
        action: "secret.put",
        object: stored.name.clone(),
        outcome: "ok",
        details: json!({ "hosts": serde_json::from_str::<Vec<String>>(&stored.places)? }),
    };
    audit::insert(tx, origin, stored.user, &record)?;
    Ok(Kept::Done(find(
        tx.connection(),
        stored.user,
        &stored.name,
    )?))
}

/// The secrets of users and of the server: kept, and handed out to tools. Cheap to clone.
#[derive(Clone)]
pub struct Secrets {
    store: Store,
    keyring: Arc<Keyring>,
    of_server: Arc<ServerSecrets>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets")
    }
}

impl Secrets {
    /// Over a store, and makes the key file where it is absent and nothing is sealed so far.
    ///
    /// # Errors
    /// `Lost` when the key file lacks the key that is in force.
    pub async fn open(
        store: &Store,
        keyring: Keyring,
        of_server: impl Into<ServerSecrets>,
    ) -> Result<Self, Error> {
        let secrets = Self {
            store: store.clone(),
            keyring: Arc::new(keyring),
            of_server: Arc::new(of_server.into()),
        };
        match secrets.store.0.db.of_all().read(key_in_force).await? {
            Some(key_id) if !secrets.keyring.has(&key_id) => {
                Err(secrets.keyring.lost(&key_id).into())
            }
            Some(_) => Ok(secrets),
            None => {
                secrets.keyring.make()?;
                Ok(secrets)
            }
        }
    }

    /// Those of a server that keeps none, for tests.
    pub fn ephemeral(store: &Store) -> Self {
        Self {
            store: store.clone(),
            keyring: Arc::new(Keyring::ephemeral(&store.0.runtime)),
            of_server: Arc::default(),
        }
    }

    /// Looks a secret up, without its value.
    pub fn find<'a>(
        &'a self,
        ctx: &'a UserExecutionContext,
        name: String,
    ) -> Lookup<'a, SecretInfo, String> {
        let find =
            |_: &Store, connection: &Connection, user, name: String| find(connection, user, &name);
        Lookup::new(&self.store, ctx, name, Right::Account, find)
    }

    /// Keeps a secret of the user, in place of the one that had the name.
    ///
    /// # Errors
    /// `Forbidden` without the right to the account; `Conflict` when the user has too many.
    pub async fn put(
        &self,
        ctx: &UserExecutionContext,
        new: NewSecret,
    ) -> Result<SecretInfo, Error> {
        let user = require(ctx, Right::Account)?;
        let places = serde_json::to_string(&new.places)?;
        loop {
            let sealed = self
                .keyring
                .seal(&new.value, &bonds(user, &new.name, &places))?;
            let key_id = sealed.key_id.clone();
            let stored = Stored {
                user,
                name: new.name.clone(),
                places: places.clone(),
                sealed,
            };
            let origin = Origin::of(ctx);
            let work = move |tx: &mut Tx<'_>| keep(tx, &origin, &stored);
            match self.store.0.db.of(user).write(work).await? {
                Kept::Done(kept) => return Ok(kept),
                Kept::Outdated => {
                    self.keyring.reload()?;
                    if self.keyring.seals_with(&key_id) {
                        return Err(self.keyring.lost("in force").into());
                    }
                }
            }
        }
    }

    /// Deletes a secret.
    ///
    /// # Errors
    /// `NotFound` where it was deleted meanwhile.
    pub async fn delete(
        &self,
        ctx: &UserExecutionContext,
        handle: Writable<SecretInfo>,
    ) -> Result<(), Error> {
        let (user, origin) = (handle.owner(), Origin::of(ctx));
        let work = move |tx: &mut Tx<'_>| {
            let sql = "DELETE FROM secrets WHERE user_id = ?1 AND name = ?2";
            if tx.execute(sql, (user.to_bytes(), &handle.name))? == 0 {
                return Err(Error::NotFound);
            }
            let record = AuditRecord {
                action: "secret.delete",
                object: handle.name.clone(),
                outcome: "ok",
                details: json!({}),
            };
            audit::insert(tx, &origin, user, &record)
        };
        self.store.0.db.of(user).write(work).await
    }

    /// Opens a secret for a tool of the user's run, which sends it to this place: the user's own of that name, or the
    /// server's where the user has none.
    ///
    /// # Errors
    /// `NotFound` where there is none; `Conflict` where it is not bound to the place; `Forbidden` without the right to
    /// run.
    pub async fn reveal(
        &self,
        ctx: &UserExecutionContext,
        name: &str,
        place: &str,
    ) -> Result<Secret, Error> {
        let user = require(ctx, Right::Run)?;
        match self.seek(user, name, place).await? {
            Found::Own(stored) => Ok(stored.open(&self.keyring)?),
            Found::OfServer(value) => Ok(value),
        }
    }

    /// All that a tool of the user can have been given under this name, wherever it was sent, to be looked for in what
    /// comes back and for nothing else. Nothing, where it has been deleted since.
    ///
    /// # Errors
    /// `Forbidden` without the right to run; `Keyring` where it cannot be opened.
    pub async fn to_conceal(
        &self,
        ctx: &UserExecutionContext,
        name: &str,
    ) -> Result<Vec<Secret>, Error> {
        let user = require(ctx, Right::Run)?;
        let own = self.stored(user, name).await?;
        let own = own.map(|stored| stored.open(&self.keyring)).transpose()?;
        let of_server = self.of_server.0.get(name).map(|found| found.value.clone());
        Ok(own.into_iter().chain(of_server).collect())
    }

    /// Whether there is a secret that [`reveal`](Self::reveal) would open.
    ///
    /// # Errors
    /// `Forbidden` without the right to read.
    pub async fn has(
        &self,
        ctx: &UserExecutionContext,
        name: &str,
        place: &str,
    ) -> Result<bool, Error> {
        let user = require(ctx, Right::Read)?;
        match self.seek(user, name, place).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound | Error::Conflict(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn stored(&self, user: UserId, name: &str) -> Result<Option<Stored>, Error> {
        let wanted = name.to_owned();
        let read = move |connection: &Connection| {
            let sql = "SELECT user_id, name, places, key_id, sealed FROM secrets
                       WHERE user_id = ?1 AND name = ?2";
            let mut statement = connection.prepare_cached(sql)?;
            let one = statement.query_row((user.to_bytes(), wanted), Stored::read);
            Ok(one.optional()?)
        };
        self.store.0.db.of(user).read(read).await
    }

    async fn seek(&self, user: UserId, name: &str, place: &str) -> Result<Found, Error> {
        match self.stored(user, name).await? {
            Some(stored) => {
                let places: Vec<String> = serde_json::from_str(&stored.places)?;
                if !places.iter().any(|one| one == place) {
                    return Err(ELSEWHERE);
                }
                Ok(Found::Own(stored))
            }
            None => self.of_server.reveal(name, place).map(Found::OfServer),
        }
    }

    /// Those of the server, for what it does itself and not for a user.
    pub fn of_server(&self) -> &Arc<ServerSecrets> {
        &self.of_server
    }

    /// Seals all secrets with a new key, and forgets the old ones when that is done; a change that broke off goes on.
    /// What cannot be opened any more is an error, or is deleted where `gives_up_lost`. Works beside a server. Gives
    /// how many were sealed anew and how many deleted. As `for_background(Console)`.
    ///
    /// # Errors
    /// `Forbidden` for anybody else; `Keyring` when a secret cannot be opened or the key file not be written.
    pub async fn rotate(
        store: &Store,
        ctx: &UserExecutionContext,
        keyring: Keyring,
        gives_up_lost: bool,
    ) -> Result<(u64, u64), Error> {
        require_background(ctx, &[BackgroundKind::Console])?;
        let in_force = store.0.db.of_all().read(key_in_force).await?;
        if let Some(key_id) = in_force.filter(|key_id| !gives_up_lost && !keyring.has(key_id)) {
            return Err(keyring.lost(&key_id).into());
        }
        keyring.make()?;
        let new = keyring.begin_change()?;
        let key_id = new.clone();
        store
            .0
            .db
            .of_all()
            .write(move |tx| put_in_force(tx, &key_id))
            .await?;
        let keyring = Arc::new(keyring);
        let (mut resealed, mut deleted) = (0, 0);
        loop {
            let (keyring, new) = (Arc::clone(&keyring), new.clone());
            let work = move |tx: &mut Tx<'_>| reseal(tx, &keyring, &new, gives_up_lost);
            match store.0.db.of_all().write(work).await? {
                (0, 0) => break,
                (more, gone) => (resealed, deleted) = (resealed + more, deleted + gone),
            }
        }
        keyring.end_change()?;
        Ok((resealed, deleted))
    }
}

/// Seals a number of secrets that have another key than this one, which the keyring seals with.
fn reseal(
    tx: &Tx<'_>,
    keyring: &Keyring,
    new: &str,
    gives_up_lost: bool,
) -> Result<(u64, u64), Error> {
    let (mut resealed, mut deleted) = (0, 0);
    let sql =
        "SELECT user_id, name, places, key_id, sealed FROM secrets WHERE key_id <> ?1 LIMIT ?2";
    let old: Vec<Stored> = tx
        .prepare(sql)?
        .query_map((new, BATCH), Stored::read)?
        .collect::<Result<_, _>>()?;
    for stored in old {
        let at = (stored.user.to_bytes(), &stored.name);
        match stored.open(keyring) {
            Ok(value) => {
                let sealed =
                    keyring.seal(&value, &bonds(stored.user, &stored.name, &stored.places))?;
                let sql =
                    "UPDATE secrets SET key_id = ?3, sealed = ?4 WHERE user_id = ?1 AND name = ?2";
                tx.execute(sql, (at.0, at.1, sealed.key_id, sealed.bytes))?;
                resealed += 1;
            }
            Err(_) if gives_up_lost => {
                tx.execute("DELETE FROM secrets WHERE user_id = ?1 AND name = ?2", at)?;
                deleted += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((resealed, deleted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_host_as_urls_have_it() {
        for good in [
            "api.example.com",
            "a",
            "127.0.0.1:8080",
            "[::1]:80",
            "x_y.example:8443",
            "mcp:tickets",
            "mcp:8080",
        ] {
            assert!(is_place(good), "{good}");
        }
        for bad in [
            "",
            "*",
            "*.example.com",
            "API.example.com",
            "a:443",
            "a:0",
            "a:080",
            "a:",
            ":80",
            "a..b",
            "a.",
            "https://a",
            "a/b",
            "a@b",
            "[::0001]",
            "[::1",
            "bücher.example",
            "mcp:Tickets",
            "mcp:a b",
            "mcp:",
            "a b",
        ] {
            assert!(!is_place(bad), "{bad}");
        }
    }
}
