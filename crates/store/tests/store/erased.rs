//! Users who are gone while something of theirs is still on its way, and what stands in the way of erasing them.

use std::collections::BTreeMap;

use netra_context::{BackgroundKind, Rights, Secret, UserExecutionContext};
use netra_protocol::admin::UpdateUser;
use netra_protocol::id::ThreadId;
use netra_protocol::thread::CreateThread;
use netra_store::secret::NewSecret;
use netra_store::{
    Error, FileWriter, Idempotency, Left, NewKey, NewToolServer, Secrets, Store, Target,
};

use crate::fixture::Fixture;

impl Fixture {
    fn sweep(&self) -> UserExecutionContext {
        UserExecutionContext::for_background(&self.runtime, BackgroundKind::Sweep)
    }

    pub(crate) async fn upload(&self, ctx: &UserExecutionContext) -> FileWriter {
        let (name, media_type) = ("a.txt".into(), "text/plain".into());
        let writer = self.store.file_begin(ctx, name, media_type, None, 100);
        let mut writer = writer.await.unwrap();
        writer.write(b"abc").await.unwrap();
        writer
    }

    /// How many rows each table has that name a user; the audit stays.
    fn rows_of_users(&self) -> BTreeMap<String, u64> {
        let tables = match self.server() {
            None => {
                "SELECT m.name FROM sqlite_master m, pragma_table_info(m.name) c
                 WHERE m.type = 'table' AND c.name = 'user_id' AND m.name NOT LIKE 'audit%'"
            }
            Some(_) => {
                "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
                 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attname = 'user_id'
                   AND c.relnamespace = 'public'::regnamespace AND c.relname NOT LIKE 'audit%'"
            }
        };
        let tables = self.rows(tables);
        assert!(tables.len() > 15, "{tables:?}");
        let counted = tables.into_iter().map(|table| {
            let rows = self.counted(&table);
            (table, rows)
        });
        counted.filter(|(_, rows)| *rows > 0).collect()
    }

    /// Files in the folder of contents, without the name that the folder itself has.
    pub(crate) fn contents(&self) -> usize {
        let files = std::fs::read_dir(self.dir().join("files")).unwrap();
        let names = files.map(|file| file.unwrap().file_name());
        names.filter(|name| name != ".installation").count()
    }
}

/// Everything that a request under way may still want to write; each has to be refused.
async fn late(fixture: &Fixture, ctx: &UserExecutionContext, upload: FileWriter) {
    let Fixture { store, runtime, .. } = fixture;
    let refused = |what: &str, outcome: Result<(), Error>| {
        assert!(
            matches!(outcome, Err(Error::Forbidden)),
            "{what}: {outcome:?}"
        );
    };
    refused("file", upload.finish(None).await.map(drop));
    let idempotency = Idempotency {
        key: "k".into(),
        operation: "thread_create".into(),
        body_hash: [1; 32],
    };
    let thread = store.thread_create(ctx, CreateThread::default(), Some(&idempotency));
    refused("thread", thread.await.map(drop));
    let target = Target::New {
        id: runtime.new_id(ThreadId::from_parts),
        title: "t".into(),
    };
    let run = store.run_create(ctx, target, fixture.new_run(), None);
    refused("run", run.await.map(drop));
    let note = store.note_keep(ctx, "name".into(), "text".into());
    refused("note", note.await.map(drop));
    refused("secret", put_secret(store, ctx).await);
    let key = NewKey {
        name: "key".into(),
        rights: Rights::of_role(netra_protocol::account::Role::User),
        expires_at: None,
        hash: [2; 32],
    };
    refused("key", store.key_create(ctx, key, None).await.map(drop));
    let (user, end) = (ctx.user_id().unwrap(), runtime.now().plus_millis(60_000));
    let background = fixture.background();
    let session = store.session_create(&background, user, [3; 32], end);
    refused("session", session.await.map(drop));
    let server = NewToolServer {
        name: "server".into(),
        url: "https://example.com".into(),
        host: "example.com".into(),
        headers: BTreeMap::new(),
    };
    let server = store.tool_server_put(ctx, server);
    refused("tool server", server.await.map(drop));
}

async fn put_secret(store: &Store, ctx: &UserExecutionContext) -> Result<(), Error> {
    let new = NewSecret {
        name: "wiki".into(),
        value: Secret::new("a-secret-value"),
        places: vec!["api.example".into()],
    };
    Secrets::ephemeral(store).put(ctx, new).await.map(drop)
}

#[tokio::test]
async fn a_request_under_way_writes_nothing_for_a_user_who_has_just_been_erased() {
    let fixture = Fixture::new();
    let ctx = fixture.user("ada").await;
    let upload = fixture.upload(&ctx).await;
    let id = ctx.user_id().unwrap();
    fixture.store.user_leave(&ctx).await.unwrap();
    let erased = fixture.store.user_erase(&fixture.sweep(), id).await;
    assert_eq!(erased.unwrap(), Left::Gone);
    late(&fixture, &ctx, upload).await;
    assert_eq!(fixture.rows_of_users(), BTreeMap::new());
    assert_eq!(fixture.contents(), 0);
}

#[tokio::test]
async fn a_request_under_way_writes_nothing_for_a_user_who_has_just_been_disabled() {
    let fixture = Fixture::new();
    let ctx = fixture.user("ada").await;
    let upload = fixture.upload(&ctx).await;
    let console = UserExecutionContext::for_background(&fixture.runtime, BackgroundKind::Console);
    let user = fixture
        .store
        .user_supervised(&console, ctx.user_id().unwrap());
    let user = user.await.unwrap();
    let disable = UpdateUser {
        disabled: Some(true),
        ..UpdateUser::default()
    };
    let disabled = fixture.store.user_update(&console, &user, disable);
    disabled.await.unwrap();
    late(&fixture, &ctx, upload).await;
    assert_eq!(fixture.contents(), 0);
}

#[tokio::test]
async fn an_admin_who_looked_before_a_user_left_does_not_let_the_user_in_again() {
    let fixture = Fixture::new();
    let ctx = fixture.user("ada").await;
    let console = UserExecutionContext::for_background(&fixture.runtime, BackgroundKind::Console);
    let id = ctx.user_id().unwrap();
    let looked = fixture.store.user_supervised(&console, id).await.unwrap();
    fixture.store.user_leave(&ctx).await.unwrap();
    let enable = UpdateUser {
        disabled: Some(false),
        ..UpdateUser::default()
    };
    let outcome = fixture.store.user_update(&console, &looked, enable).await;
    assert!(matches!(outcome, Err(Error::NotFound)), "{outcome:?}");
}

#[tokio::test]
async fn content_that_cannot_be_removed_stays_known_and_is_removed_at_the_next_try() {
    let fixture = Fixture::new();
    let ctx = fixture.user("ada").await;
    let id = ctx.user_id().unwrap();
    let file = fixture.upload(&ctx).await.finish(None).await.unwrap().value;
    let content = fixture.dir().join("files").join(file.id.to_string());
    // A folder in its place: as whoever runs this may be root, no permission stands in the way.
    std::fs::remove_file(&content).unwrap();
    std::fs::create_dir(&content).unwrap();
    fixture.store.user_leave(&ctx).await.unwrap();
    let sweep = fixture.sweep();
    let failed = fixture.store.user_erase(&sweep, id).await;
    assert!(matches!(failed, Err(Error::Unavailable(_))), "{failed:?}");
    assert_eq!(fixture.store.users_leaving(&sweep).await.unwrap(), [id]);

    std::fs::remove_dir(&content).unwrap();
    std::fs::write(&content, b"abc").unwrap();
    let erased = fixture.store.user_erase(&sweep, id).await;
    assert_eq!(erased.unwrap(), Left::Gone);
    assert_eq!(
        (fixture.contents(), fixture.rows_of_users()),
        (0, BTreeMap::new())
    );
}
