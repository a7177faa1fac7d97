//! How what is asked all the time is carried out where there is much: by indexes, never by reading a whole table.

use std::collections::BTreeSet;

use netra_context::UserExecutionContext;

use super::day;
use crate::between::Strips;
use crate::fixture::Fixture;

/// Users beside the one who asks, each with as much.
const OTHERS: u32 = 400;
/// Rows of a table that nobody may read from end to end.
const MANY: u32 = 500;

/// Gives each of many others all that there is so far: the same rows, with other ids.
fn multiplied() -> String {
    format!(
        "DO $$
         DECLARE one text; columns text; made text;
         BEGIN
             FOREACH one IN ARRAY ARRAY['users', 'logs', 'threads', 'runs', 'messages', 'events', 'journal', 'approvals',
                 'files', 'usage_days', 'audit', 'audit_heads', 'idempotency', 'sessions', 'refresh_tokens', 'api_keys']
             LOOP
                 SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum),
                        string_agg(CASE
                            WHEN atttypid = 'uuid'::regtype THEN format('md5(n || %I::text)::uuid', attname)
                            WHEN atttypid = 'bytea'::regtype THEN format('sha256(n::text::bytea || %I)', attname)
                            WHEN one = 'users' AND attname = 'name' THEN 'name || n'
                            ELSE quote_ident(attname) END, ', ' ORDER BY attnum)
                 INTO columns, made FROM pg_attribute
                 WHERE attrelid = one::regclass AND attnum > 0 AND NOT attisdropped
                   AND attidentity = '' AND attgenerated = '';
                 EXECUTE format('INSERT INTO %I (%s) SELECT %s FROM %I, generate_series(1, {OTHERS}) n',
                                one, columns, made, one);
             END LOOP;
         END
         $$"
    )
}

/// The tables, and parts of tables, that have many rows.
fn large(fixture: &Fixture) -> BTreeSet<String> {
    let sql = format!(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND reltuples > {MANY}
           AND relnamespace = 'public'::regnamespace"
    );
    fixture.rows(&sql).into_iter().collect()
}

/// The highest number of a parameter.
fn parameters(sql: &str) -> usize {
    let numbers = sql.split('$').skip(1).map(|behind| {
        let digits = behind.chars().take_while(char::is_ascii_digit);
        digits.collect::<String>().parse().unwrap_or(0)
    });
    numbers.max().unwrap_or(0)
}

/// How the server carries it out whatever the parameters are, as a line for each step.
fn plan(fixture: &Fixture, sql: &str) -> Vec<String> {
    let given = vec!["NULL"; parameters(sql)].join(", ");
    let given = match given.as_str() {
        "" => String::new(),
        given => format!("({given})"),
    };
    let server = fixture.server().unwrap();
    let explained = server.as_app(&format!(
        "SET plan_cache_mode = force_generic_plan; SET netra.user_id = '00000000-0000-0000-0000-000000000000';
         PREPARE asked AS {sql}; EXPLAIN (COSTS OFF) EXECUTE asked{given}"
    ));
    let explained = explained.map_err(|why| format!("{sql}: {why}")).unwrap();
    explained.lines().map(str::to_owned).collect()
}

/// The steps of it that read a large table from end to end.
fn read_whole(fixture: &Fixture, large: &BTreeSet<String>, sql: &str) -> Vec<String> {
    let mut steps = plan(fixture, sql);
    steps.retain(|step| {
        let on = step.split_once("Seq Scan on ").map(|(_, on)| on);
        let table = on.and_then(|on| on.split(' ').next());
        table.is_some_and(|table| large.contains(table))
    });
    steps
}

/// What a request asks before it is known whose it is.
async fn sign_in(fixture: &Fixture, ctx: &UserExecutionContext) {
    let (store, background) = (&fixture.store, fixture.background());
    store.user_by_name(&background, "ada").await.unwrap();
    let user = ctx.user_id().unwrap();
    store.user_by_id(&background, user).await.unwrap();
    store.key_by_hash(&background, [1; 32]).await.unwrap();
    let later = fixture.runtime.now().plus_millis(60_000);
    let session = store.session_create(&background, user, [4; 32], later);
    let session = session.await.unwrap();
    store.session_alive(&background, session).await.unwrap();
    let refreshed = store.session_refresh(&background, [4; 32], [5; 32], later);
    refreshed.await.unwrap();
}

#[tokio::test]
async fn what_is_asked_all_the_time_reads_no_large_table_from_end_to_end() {
    let fixture = Fixture::on_postgres().with_between(Some(Strips(false)));
    let ada = fixture.user("ada").await;
    day::keep(&fixture, &ada, 1).await;
    fixture.sql(&multiplied());
    fixture.sql("ANALYZE");
    let large = large(&fixture);
    for table in [
        "runs", "threads", "messages", "journal", "events_0", "audit",
    ] {
        assert!(large.contains(table), "{table} has too few rows: {large:?}");
    }
    // Such a one is seen.
    let no_index = read_whole(&fixture, &large, "SELECT id FROM runs WHERE agent = $1");
    assert_eq!(no_index.len(), 1);

    sign_in(&fixture, &ada).await;
    day::told(&fixture, &ada).await;
    day::change(&fixture, &ada).await;
    let asked = fixture.server().unwrap().between().asked();
    let is_work = |sql: &&String| {
        let words = ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH"];
        words.iter().any(|word| sql.trim_start().starts_with(word))
    };
    let work: Vec<_> = asked.iter().filter(is_work).collect();
    assert!(work.len() > 60, "{work:#?}");
    let whole = work.into_iter().flat_map(|sql| {
        let steps = read_whole(&fixture, &large, sql);
        steps.into_iter().map(move |step| format!("{sql}\n{step}"))
    });
    let whole: Vec<_> = whole.collect();
    assert!(whole.is_empty(), "{}", whole.join("\n\n"));
}
