//! The chain of audit records: whatever is done to it behind the store's back is found.

use netra_context::UserExecutionContext;
use netra_store::audit::Verdict;
use netra_store::{AuditKey, AuditRecord, Changes};

use crate::fixture::Fixture;

const KEY: [u8; 32] = [7; 32];

/// A user with this many records.
async fn recorded(fixture: &Fixture, name: &str, records: usize) -> UserExecutionContext {
    let ctx = fixture.user(name).await;
    let run = fixture.run(&ctx).await;
    for number in 0..records {
        let changes = Changes {
            audit: vec![AuditRecord {
                action: "tool.call",
                object: format!("call {number}"),
                outcome: "completed",
                details: serde_json::json!({ "number": number }),
            }],
            ..Changes::default()
        };
        fixture
            .store
            .commit(&ctx, &run, changes, Vec::new())
            .await
            .unwrap();
    }
    ctx
}

fn verify(fixture: &Fixture, ctx: &UserExecutionContext, key: [u8; 32]) -> Verdict {
    fixture
        .audit()
        .verify(&AuditKey::new(key), ctx.user_id().unwrap())
        .unwrap()
}

#[tokio::test]
async fn records_are_listed_newest_first_and_their_chain_holds() {
    let fixture = Fixture::new();
    let (ada, bob) = (
        recorded(&fixture, "ada", 5).await,
        recorded(&fixture, "bob", 2).await,
    );
    let page = fixture.store.audit(&ada, 3, None).await.unwrap();
    let seqs: Vec<_> = page.items.iter().map(|entry| entry.seq.unwrap()).collect();
    assert_eq!(seqs, [5, 4, 3]);
    assert_eq!(page.items[0].object, "call 4");
    let rest = fixture
        .store
        .audit(&ada, 3, page.next_cursor.as_deref())
        .await
        .unwrap();
    assert_eq!(rest.items.len(), 2);
    for (ctx, records) in [(&ada, 5), (&bob, 2)] {
        let verdict = verify(&fixture, ctx, KEY);
        assert_eq!((verdict.records, verdict.findings), (records, Vec::new()));
    }
    assert!(
        !verify(&fixture, &ada, [8; 32]).findings.is_empty(),
        "another key opens nothing"
    );
}

#[tokio::test]
async fn every_change_behind_the_stores_back_is_found() {
    let forged = "UPDATE audit SET hash = (SELECT hash FROM audit WHERE seq = 2) WHERE seq = 3";
    let changes = [
        "UPDATE audit SET outcome = 'denied' WHERE seq = 3",
        "UPDATE audit SET actor = 'usr_x' WHERE seq = 1",
        "UPDATE audit SET details = '{}' WHERE seq = 5",
        "UPDATE audit SET at = at + 1 WHERE seq = 2",
        // Text that moves from one field to the next.
        "UPDATE audit SET action = 'tool.callcall', object = substr(object, 5) WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 1",
        "DELETE FROM audit WHERE seq = 3",
        "DELETE FROM audit WHERE seq = 5",
        "DELETE FROM audit WHERE seq > 2; UPDATE audit_heads SET seq = 2, \
         hash = (SELECT hash FROM audit WHERE seq = 2)",
        "DELETE FROM audit",
        "DELETE FROM audit_heads",
        "UPDATE audit SET seq = NULL, hash = NULL WHERE seq = 4",
        "UPDATE audit SET hash = NULL WHERE seq = 4",
        forged,
        "UPDATE audit SET seq = 9 WHERE seq = 2; UPDATE audit SET seq = 2 WHERE seq = 3; \
         UPDATE audit SET seq = 3 WHERE seq = 9",
        "INSERT INTO audit SELECT randomblob(16), user_id, at, actor, action, object, outcome, \
         details, request_id, 6, hash FROM audit WHERE seq = 5",
    ];
    for change in changes {
        let fixture = Fixture::new();
        let ada = recorded(&fixture, "ada", 5).await;
        fixture.sql(&in_its_words(&fixture, change));
        let verdict = verify(&fixture, &ada, KEY);
        assert!(!verdict.findings.is_empty(), "not found: {change}");
    }
}

#[tokio::test]
async fn a_record_of_one_user_does_not_pass_for_anothers() {
    let fixture = Fixture::new();
    let (ada, bob) = (
        recorded(&fixture, "ada", 2).await,
        recorded(&fixture, "bob", 2).await,
    );
    let id = |name| format!("(SELECT id FROM users WHERE name = '{name}')");
    let (of_ada, of_bob) = (id("ada"), id("bob"));
    fixture.sql(&format!("DELETE FROM audit WHERE user_id = {of_ada}"));
    fixture.sql(&format!(
        "UPDATE audit SET user_id = {of_ada} WHERE user_id = {of_bob}"
    ));
    assert!(!verify(&fixture, &ada, KEY).findings.is_empty());
    assert!(!verify(&fixture, &bob, KEY).findings.is_empty());
}

/// That a whole chain was taken away did not show.
#[tokio::test]
async fn a_chain_that_was_taken_away_whole_is_found() {
    let totals = |fixture: &Fixture| fixture.audit().verify_totals(&AuditKey::new(KEY)).unwrap();
    let id = "(SELECT id FROM users WHERE name = 'bob')";
    for (change, words) in [
        (
            format!(
                "DELETE FROM audit WHERE user_id = {id}; DELETE FROM audit_heads WHERE user_id = {id}"
            ),
            "as many chains",
        ),
        (
            "DELETE FROM audit; DELETE FROM audit_heads".into(),
            "as many chains",
        ),
        (
            "DELETE FROM meta WHERE key = 'audit_totals'".into(),
            "taken away",
        ),
        (
            "UPDATE meta SET value = replace(value, '2:', '1:') WHERE key = 'audit_totals'".into(),
            "not what was written",
        ),
        (
            "DELETE FROM audit; DELETE FROM audit_heads; DELETE FROM meta WHERE key = 'audit_totals'".into(),
            "taken away",
        ),
        ("DELETE FROM audit WHERE seq IS NULL".into(), "from before"),
    ] {
        let fixture = Fixture::new();
        // As a store has it that is older than chains.
        let older = "DELETE FROM meta WHERE key = 'audit_totals'; INSERT INTO audit
             (id, user_id, at, actor, action, object, outcome, details, request_id)
             VALUES (x'00', x'00', 0, '', '', '', '', '{}', x'00')";
        fixture.sql(&in_its_words(&fixture, older));
        let fixture = fixture.reopened();
        recorded(&fixture, "ada", 3).await;
        recorded(&fixture, "bob", 2).await;
        assert_eq!(totals(&fixture), [""; 0]);
        fixture.sql(&change);
        let found = totals(&fixture).concat();
        assert!(found.contains(words), "{change}: {found}");
        // What is recorded afterwards does not heal it.
        recorded(&fixture, "eve", 2).await;
        let found = totals(&fixture);
        assert!(!found.is_empty(), "{change}");
    }
}

/// The same in the words of the fixture's database.
fn in_its_words(fixture: &Fixture, sql: &str) -> String {
    match fixture.server() {
        None => sql.to_owned(),
        Some(_) => sql
            .replace("at + 1", "at + interval '1 microsecond'")
            .replace("randomblob(16)", "gen_random_uuid()")
            .replace("x'00'", "'00000000-0000-0000-0000-000000000000'")
            .replace(", 0, ''", ", 'epoch', ''"),
    }
}

/// A store whose audit was wiped out to the last trace was taken for a new one, by whoever opened it next, too.
#[tokio::test]
async fn an_audit_that_was_wiped_out_is_not_taken_for_a_new_one() {
    let fixture = Fixture::new();
    let totals = |fixture: &Fixture| fixture.audit().verify_totals(&AuditKey::new(KEY)).unwrap();
    assert_eq!(totals(&fixture), [""; 0], "a new store");
    recorded(&fixture, "ada", 3).await;
    let wipe =
        "DELETE FROM audit; DELETE FROM audit_heads; DELETE FROM meta WHERE key = 'audit_totals'";
    fixture.sql(wipe);
    assert!(totals(&fixture).concat().contains("taken away"));
    let fixture = fixture.reopened();
    assert!(!totals(&fixture).is_empty(), "opening it made new numbers");
    recorded(&fixture, "bob", 1).await;
    assert!(!totals(&fixture).is_empty(), "a record healed it");
}
