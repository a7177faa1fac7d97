//! Secrets: kept for their user and place, sealed in the database's bytes, and sealed anew beside a server.

use std::collections::BTreeMap;

use netra_context::{BackgroundKind, Secret, UserExecutionContext};
use netra_store::secret::{Keyring, KeyringError, NewSecret, ServerSecret};
use netra_store::{Error, Secrets};

use crate::fixture::Fixture;

const CANARY: &str = "canary-of-the-store";

fn new(name: &str, value: &str) -> NewSecret {
    NewSecret {
        name: name.into(),
        value: Secret::new(value),
        places: vec!["api.example".into()],
    }
}

impl Fixture {
    fn keyring(&self) -> Keyring {
        Keyring::at(&self.runtime, self.dir().join("secret-keys")).unwrap()
    }

    pub(crate) async fn secrets(&self) -> Secrets {
        Secrets::open(&self.store, self.keyring(), BTreeMap::new())
            .await
            .unwrap()
    }

    fn console(&self) -> UserExecutionContext {
        UserExecutionContext::for_background(&self.runtime, BackgroundKind::Console)
    }
}

async fn opened(
    secrets: &Secrets,
    ctx: &UserExecutionContext,
    name: &str,
    place: &str,
) -> Result<String, Error> {
    let secret = secrets.reveal(ctx, name, place).await?;
    Ok(secret.expose().to_owned())
}

#[tokio::test]
async fn a_secret_opens_for_its_user_and_place_only_and_the_database_does_not_show_it() {
    let fixture = Fixture::new();
    let (ada, bob) = (fixture.user("ada").await, fixture.user("bob").await);
    let secrets = fixture.secrets().await;
    let kept = secrets.put(&ada, new("wiki", CANARY)).await.unwrap();
    assert_eq!((kept.name.as_str(), kept.hosts.len()), ("wiki", 1));
    assert_eq!(
        opened(&secrets, &ada, "wiki", "api.example").await.unwrap(),
        CANARY
    );
    let elsewhere = opened(&secrets, &ada, "wiki", "evil.example").await;
    assert!(matches!(elsewhere, Err(Error::Conflict(_))));
    for (ctx, name) in [(&ada, "Wiki"), (&bob, "wiki")] {
        assert!(matches!(
            opened(&secrets, ctx, name, "api.example").await,
            Err(Error::NotFound)
        ));
        let found = secrets.find(ctx, name.into()).for_write().await;
        assert!(matches!(found, Err(Error::NotFound)));
    }
    let bytes = fixture.bytes();
    assert!(bytes.windows(4).any(|part| part == b"wiki"), "it is there");
    assert!(
        !bytes
            .windows(CANARY.len())
            .any(|part| part == CANARY.as_bytes())
    );
    // Put again, it is another one; deleted, it is none.
    secrets
        .put(&ada, new("wiki", "another-secret"))
        .await
        .unwrap();
    assert_eq!(
        opened(&secrets, &ada, "wiki", "api.example").await.unwrap(),
        "another-secret"
    );
    let handle = secrets.find(&ada, "wiki".into()).for_write().await.unwrap();
    secrets.delete(&ada, handle).await.unwrap();
    assert!(opened(&secrets, &ada, "wiki", "api.example").await.is_err());
    let audit = fixture.store.audit(&ada, 10, None).await.unwrap().items;
    let actions: Vec<&str> = audit.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["secret.delete", "secret.put", "secret.put"]);
    assert!(
        audit
            .iter()
            .all(|entry| !format!("{entry:?}").contains(CANARY))
    );
}

#[tokio::test]
async fn a_row_that_was_moved_or_given_another_host_does_not_open() {
    let moved = "CREATE TEMP TABLE t AS SELECT * FROM secrets;
        UPDATE secrets SET sealed = (SELECT t.sealed FROM t WHERE t.user_id <> secrets.user_id)";
    for (change, name, place) in [
        (moved, "wiki", "api.example"),
        ("UPDATE secrets SET name = 'other'", "other", "api.example"),
        (
            "UPDATE secrets SET places = '[\"evil.example\"]'",
            "wiki",
            "evil.example",
        ),
    ] {
        let fixture = Fixture::new();
        let (ada, bob) = (fixture.user("ada").await, fixture.user("bob").await);
        let secrets = fixture.secrets().await;
        secrets.put(&ada, new("wiki", CANARY)).await.unwrap();
        secrets
            .put(&bob, new("wiki", "secret-of-bob"))
            .await
            .unwrap();
        fixture.sql(change);
        for ctx in [&ada, &bob] {
            let broken = opened(&secrets, ctx, name, place).await;
            assert!(
                matches!(broken, Err(Error::Secrets(KeyringError::Sealed))),
                "{change}: {broken:?}"
            );
        }
    }
}

#[tokio::test]
async fn keys_are_changed_beside_a_server_which_goes_on() {
    let fixture = Fixture::new();
    let ada = fixture.user("ada").await;
    let secrets = fixture.secrets().await;
    secrets.put(&ada, new("one", CANARY)).await.unwrap();
    let before = std::fs::read_to_string(fixture.dir().join("secret-keys")).unwrap();
    let rotate = async |gives_up: bool| {
        Secrets::rotate(
            &fixture.store,
            &fixture.console(),
            fixture.keyring(),
            gives_up,
        )
        .await
    };
    assert_eq!(rotate(false).await.unwrap(), (1, 0));
    let after = std::fs::read_to_string(fixture.dir().join("secret-keys")).unwrap();
    assert_eq!(after.lines().count(), 1);
    assert_ne!(before, after);
    // The server knew neither of the new key nor that the old one is gone.
    secrets
        .put(&ada, new("two", "put-after-the-change"))
        .await
        .unwrap();
    assert_eq!(
        opened(&secrets, &ada, "one", "api.example").await.unwrap(),
        CANARY
    );
    assert_eq!(rotate(false).await.unwrap(), (2, 0));
    assert_eq!(
        opened(&secrets, &ada, "two", "api.example").await.unwrap(),
        "put-after-the-change"
    );
    assert!(matches!(
        Secrets::rotate(&fixture.store, &ada, fixture.keyring(), false).await,
        Err(Error::Forbidden)
    ));
    // A lost key file keeps a server from starting with a new one, until the secrets are given up.
    std::fs::remove_file(fixture.dir().join("secret-keys")).unwrap();
    let lost = Secrets::open(&fixture.store, fixture.keyring(), BTreeMap::new()).await;
    assert!(matches!(
        lost,
        Err(Error::Secrets(KeyringError::Lost { .. }))
    ));
    assert!(!fixture.dir().join("secret-keys").exists());
    assert!(matches!(
        rotate(false).await,
        Err(Error::Secrets(KeyringError::Lost { .. }))
    ));
    assert_eq!(rotate(true).await.unwrap(), (0, 2));
    let secrets = fixture.secrets().await;
    assert!(matches!(
        opened(&secrets, &ada, "one", "api.example").await,
        Err(Error::NotFound)
    ));
}

#[tokio::test]
async fn the_servers_secrets_are_for_all_and_a_users_own_comes_first() {
    let fixture = Fixture::new();
    let ada = fixture.user("ada").await;
    let of_server = ServerSecret {
        value: Secret::new("of-the-server"),
        places: vec!["wiki.example".into()],
    };
    let of_server = BTreeMap::from([("wiki".to_owned(), of_server)]);
    let secrets = Secrets::open(&fixture.store, fixture.keyring(), of_server)
        .await
        .unwrap();
    assert_eq!(
        opened(&secrets, &ada, "wiki", "wiki.example")
            .await
            .unwrap(),
        "of-the-server"
    );
    assert!(matches!(
        opened(&secrets, &ada, "wiki", "evil.example").await,
        Err(Error::Conflict(_))
    ));
    secrets
        .put(&ada, new("wiki", "of-ada-herself"))
        .await
        .unwrap();
    assert_eq!(
        opened(&secrets, &ada, "wiki", "api.example").await.unwrap(),
        "of-ada-herself"
    );
    assert!(
        opened(&secrets, &ada, "wiki", "wiki.example")
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_user_has_a_hundred_secrets_at_most() {
    let fixture = Fixture::new();
    let ada = fixture.user("ada").await;
    let secrets = fixture.secrets().await;
    for number in 0..100 {
        secrets
            .put(&ada, new(&format!("s{number}"), "value-of-it"))
            .await
            .unwrap();
    }
    let more = secrets.put(&ada, new("more", "value-of-it")).await;
    assert!(matches!(more, Err(Error::Conflict(_))));
    secrets.put(&ada, new("s1", "another-value")).await.unwrap();
}
