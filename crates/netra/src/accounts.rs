//! Accounts of a data folder from the server's own command line, beside a running server or not.

use std::path::PathBuf;
use std::time::Duration;

use netra_context::{BackgroundKind, Runtime, UserExecutionContext};
use netra_events::Hub;
use netra_gateway::{Keys, KeysError, hash_password, reset_token};
use netra_protocol::account::{Plan, Role, User, is_user_name};
use netra_protocol::admin::UpdateUser;
use netra_store::secret::Keyring;
use netra_store::{NewUser, Secrets, Store, Supervised};

use crate::config::Config;
use crate::exit::{Exit, Problem};

/// Accounts read in one go.
const PAGE: u32 = 100;

/// An account to be made.
#[derive(Debug)]
pub struct NewAccount {
    /// The name to sign in with.
    pub name: String,
    /// What the user may do.
    pub role: Role,
    /// What the user has booked.
    pub plan: Plan,
    /// None for a user who cannot sign in by password.
    pub password: Option<String>,
}

/// The accounts of a data folder, and the key that signs tokens.
pub struct Accounts {
    runtime: Runtime,
    secret_keys: PathBuf,
    store: Store,
    keys: Keys,
}

/// The server's keys, made where they are absent.
pub(crate) fn keys(config: &Config, runtime: &Runtime) -> Result<Keys, KeysError> {
    let keys = Keys::load_or_create(runtime, &config.data)?;
    Ok(match &config.hs256_secret {
        Some(secret) => keys.with_hs256(secret),
        None => keys,
    })
}

impl Accounts {
    /// Opens the folder and makes what is absent. Does not take its lock.
    pub fn open(config: &Config) -> Result<Self, Problem> {
        let runtime = Runtime::new();
        Store::make_dir(&config.data)?;
        let keys = keys(config, &runtime).map_err(|error| Problem::new(Exit::Failure, error))?;
        // Nobody listens here; a server on the folder reads the log itself.
        let store = config.store(&runtime, keys.audit_key(), Hub::new())?;
        store.set_limits(config.limits.clone());
        Ok(Self {
            runtime,
            secret_keys: config.secret_keys(),
            store,
            keys,
        })
    }

    fn console(&self) -> UserExecutionContext {
        UserExecutionContext::for_background(&self.runtime, BackgroundKind::Console)
    }

    /// Makes an account.
    pub async fn create(&self, new: NewAccount) -> Result<User, Problem> {
        check_name(&new.name)?;
        let password_hash = match new.password {
            None => None,
            Some(password) => {
                let (runtime, name) = (self.runtime.clone(), new.name.clone());
                let hash = move || hash_password(&runtime, &password, &name);
                let hashed = self
                    .runtime
                    .spawn_blocking(hash)
                    .await
                    .map_err(anyhow::Error::new)?;
                Some(hashed.map_err(|error| Problem::new(Exit::Usage, error))?)
            }
        };
        let taken = format!("there is a user `{}` already", new.name);
        let user = NewUser {
            name: new.name,
            role: new.role,
            plan: new.plan,
            password_hash,
        };
        self.store
            .user_create(&self.console(), user)
            .await
            .map_err(|error| match error {
                netra_store::Error::NameTaken => Problem::message(Exit::Failure, taken),
                other => other.into(),
            })
    }

    /// The account of this name.
    pub async fn find(&self, name: &str) -> Result<Option<User>, Problem> {
        let found = self.store.user_by_name(&self.console(), name).await?;
        Ok(found.map(|credentials| credentials.user))
    }

    /// The account of this name; a plain one without a password is made where there is none.
    pub async fn find_or_create(&self, name: &str) -> Result<User, Problem> {
        if let Some(user) = self.find(name).await? {
            return Ok(user);
        }
        let new = NewAccount {
            name: name.to_owned(),
            role: Role::User,
            plan: Plan::Free,
            password: None,
        };
        match self.create(new).await {
            Ok(user) => Ok(user),
            // Another command may have been faster.
            Err(problem) => self.find(name).await?.ok_or(problem),
        }
    }

    /// Disables an account, or lets it in again. A running server sees it within a minute.
    pub async fn set_disabled(&self, name: &str, disabled: bool) -> Result<User, Problem> {
        let change = UpdateUser {
            disabled: Some(disabled),
            ..UpdateUser::default()
        };
        self.update(name, change).await
    }

    /// Puts the user into these groups and no others. A running server sees it within a minute.
    pub async fn set_groups(&self, name: &str, groups: Vec<String>) -> Result<User, Problem> {
        let change = UpdateUser {
            groups: Some(groups),
            ..UpdateUser::default()
        };
        if !change.has_good_groups() {
            return Err(Problem::message(
                Exit::Usage,
                "at most 32 groups, each with 1 to 64 letters, digits, `.`, `_` or `-`",
            ));
        }
        self.update(name, change).await
    }

    /// Gives the user another role or plan, or both. A running server sees it within a minute.
    pub async fn set(
        &self,
        name: &str,
        role: Option<Role>,
        plan: Option<Plan>,
    ) -> Result<User, Problem> {
        let change = UpdateUser {
            role,
            plan,
            ..UpdateUser::default()
        };
        self.update(name, change).await
    }

    /// A token by which the user sets a new password, once.
    pub async fn reset_token(&self, name: &str) -> Result<String, Problem> {
        let user = self.supervised(name).await?;
        let (token, kept) = reset_token(&self.runtime);
        let console = self.console();
        self.store.reset_link_create(&console, &user, kept).await?;
        Ok(token)
    }

    async fn supervised(&self, name: &str) -> Result<Supervised<User>, Problem> {
        let known = self
            .find(name)
            .await?
            .ok_or_else(|| Problem::message(Exit::Failure, format!("there is no user `{name}`")))?;
        Ok(self
            .store
            .user_supervised(&self.console(), known.id)
            .await?)
    }

    async fn update(&self, name: &str, change: UpdateUser) -> Result<User, Problem> {
        let user = self.supervised(name).await?;
        let console = self.console();
        Ok(self.store.user_update(&console, &user, change).await?)
    }

    /// Seals all users' secrets with a new key, and gives how many that were and how many had to be given up.
    pub async fn rotate_secret_keys(&self, gives_up_lost: bool) -> Result<(u64, u64), Problem> {
        let keyring = Keyring::at(&self.runtime, self.secret_keys.clone());
        let keyring = keyring.map_err(|error| Problem::new(Exit::Failure, error))?;
        Ok(Secrets::rotate(&self.store, &self.console(), keyring, gives_up_lost).await?)
    }

    /// All accounts, oldest first.
    pub async fn all(&self) -> Result<Vec<User>, Problem> {
        let mut users = Vec::new();
        let mut cursor = None;
        loop {
            let page = self
                .store
                .users(&self.console(), PAGE, cursor.as_deref())
                .await?;
            users.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(users);
            }
        }
    }

    /// An access token that belongs to no sign-in.
    pub fn token(&self, user: &User, ttl: Duration) -> Result<String, Problem> {
        Ok(self
            .keys
            .access_token(user.id, None, self.runtime.now(), ttl)?)
    }
}

fn check_name(name: &str) -> Result<(), Problem> {
    if is_user_name(name) {
        return Ok(());
    }
    Err(Problem::message(
        Exit::Usage,
        "a user's name has 1 to 64 letters, digits, `.`, `_`, `-` or `@`",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_contract() {
        for good in ["a", "ada.l-1_x@example", &"n".repeat(64)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "ä", "a/b", "USR_x", &"n".repeat(65)] {
            assert_eq!(check_name(bad).unwrap_err().exit, Exit::Usage, "{bad}");
        }
    }

    #[tokio::test]
    async fn an_account_is_made_once_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let accounts = Accounts::open(&Config::for_data(dir.path()).unwrap()).unwrap();
        let made = accounts.find_or_create("local").await.unwrap();
        // A second opening, as a command beside a running server.
        let other = Accounts::open(&Config::for_data(dir.path()).unwrap()).unwrap();
        assert_eq!(other.find_or_create("local").await.unwrap().id, made.id);
        assert_eq!(other.all().await.unwrap().len(), 1);
        assert!(
            other
                .token(&made, Duration::from_secs(60))
                .unwrap()
                .split('.')
                .count()
                == 3
        );

        let short = NewAccount {
            name: "ada".into(),
            role: Role::User,
            plan: Plan::Free,
            password: Some("short".into()),
        };
        assert_eq!(accounts.create(short).await.unwrap_err().exit, Exit::Usage);
        assert!(accounts.find("ada").await.unwrap().is_none());
    }
}
