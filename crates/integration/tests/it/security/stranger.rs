//! Every operation and every frame of the contract, with every kind of id in it, tried by nobody,
//! by another user, by an admin, and with a token that is past its time.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use netra_client::{Client, Incoming, Method, Socket};
use netra_integration::{TestUser, soon};
use netra_protocol::account::Role;
use netra_protocol::frame::ServerFrame;
use serde_json::Value;

use super::contract::{Operation, Place, document, frames, operations, put};
use super::table::{self, Access, Row};
use super::world::{Answer, Objects, World, attempt, everything, missing, unchanged};
use crate::Test;

/// A word that only the victim knows; a part of every object.
const WORD: &str = "adamant";

struct Tried {
    world: World,
    victim: TestUser,
    objects: Objects,
    document: Value,
}

impl Tried {
    async fn new() -> Result<Self> {
        let world = World::start().await?;
        let victim = world.user(Role::User).await?;
        let objects = world.furnish(&victim, WORD).await?;
        let document = document(&victim.client).await?;
        Ok(Self {
            world,
            victim,
            objects,
            document,
        })
    }

    /// Neither a word nor an id of the victim stands in a text.
    fn knows_nothing(&self, text: &str, what: &str) -> Result<()> {
        let known = self
            .objects
            .ids()
            .chain([WORD])
            .find(|id| text.contains(id));
        ensure!(
            known.is_none(),
            "{what} told a stranger of {known:?}: {text}"
        );
        Ok(())
    }
}

/// The object of the path that somebody with these objects asks for.
fn own<'a>(objects: &'a Objects, operation: &Operation) -> Result<&'a str> {
    let in_path = operation
        .ids
        .iter()
        .find(|named| named.place == Place::Path);
    in_path.map_or(Ok(""), |named| {
        objects.fit_for(&operation.name, &named.kind)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_and_an_expired_token_are_refused_by_every_operation_even_for_its_owner() -> Test {
    let tried = Tried::new().await?;
    let before = everything(&tried.victim, &tried.objects).await?;
    let server = &tried.world.server;
    let expired = server.client_for(&tried.victim, Duration::ZERO).await?;
    let callers = [
        ("nobody", server.anonymous()?, "401 unauthenticated"),
        ("an expired token", expired, "401 token_expired"),
        (
            "an invented token",
            server.anonymous()?.with_token("eyJhbGciOiJub25lIn0.e30."),
            "401 unauthenticated",
        ),
    ];
    let all = operations(&tried.document)?;
    for (row, operation) in table::operations(&all)? {
        let object = own(&tried.objects, operation)?;
        for (who, client, refused) in &callers {
            let answer = attempt(client, (row, operation), object, None).await?;
            let what = format!("{who}: {}", row.name);
            tried.knows_nothing(&answer.text, &what)?;
            let is_refused = answer.in_short() == *refused;
            match row.access {
                Access::SignedIn | Access::Admin => ensure!(is_refused, "{what}: {answer:?}"),
                // A token that nobody asked for is not looked at.
                Access::Anyone => ensure!(answer.code() != "token_expired", "{what}: {answer:?}"),
            }
        }
    }
    unchanged(&tried.victim, &tried.objects, &before).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn for_a_stranger_anothers_object_is_a_missing_one_in_every_operation() -> Test {
    let tried = Tried::new().await?;
    let before = everything(&tried.victim, &tried.objects).await?;
    let all = operations(&tried.document)?;
    let mut tries = 0;
    for role in [Role::User, Role::Developer, Role::Admin] {
        let stranger = tried.world.user(role).await?;
        let objects = tried.world.furnish(&stranger, "stranger").await?;
        for (row, operation) in table::operations(&all)? {
            if row.access == Access::Admin && role == Role::Admin {
                tried
                    .admin_looks(&stranger.client, (row, operation))
                    .await?;
                continue;
            }
            let attempted = tried.stranger_tries(&stranger.client, &objects, (row, operation));
            tries += attempted.await?;
        }
    }
    ensure!(tries > 100, "only {tries} were tried");
    unchanged(&tried.victim, &tried.objects, &before).await
}

impl Tried {
    /// An admin is told whose things are and how they go, and no word of what they are about.
    async fn admin_looks(&self, admin: &Client, (row, operation): (Row, &Operation)) -> Test {
        if operation.method == Method::GET {
            let answer = attempt(admin, (row, operation), "", None).await?;
            ensure!(answer.status == 200, "{}: {answer:?}", row.name);
            ensure!(!answer.text.contains(WORD), "{}: {answer:?}", row.name);
        }
        Ok(())
    }

    /// Every id of the victim in every place of one operation; gives how many there were.
    async fn stranger_tries(
        &self,
        client: &Client,
        objects: &Objects,
        (row, operation): (Row, &Operation),
    ) -> Result<usize> {
        let object = own(objects, operation)?;
        if operation.ids.is_empty() {
            let answer = attempt(client, (row, operation), object, None).await?;
            self.knows_nothing(&answer.text, row.name)?;
            ensure!(answer.status < 500, "{}: {answer:?}", row.name);
        }
        let mut tries = 0;
        for named in &operation.ids {
            for id in self.objects.of_kind(&named.kind)? {
                for row in spoiled(row) {
                    let at = async |id: &str| -> Result<Answer> {
                        attempt(client, (row, operation), object, Some((&named.place, id))).await
                    };
                    let (foreign, absent) = (at(id).await?, at(&missing(id)).await?);
                    let what = format!("{} {:?} {row:?}", row.name, named.place);
                    assert_eq!(foreign, absent, "{what}");
                    self.knows_nothing(&foreign.text, &what)?;
                    // A filter gives nothing of what is not there, and what is wrong may be told if
                    // it is told of every id alike; everything else is hidden.
                    let is_filter = matches!(named.place, Place::Query(_)) && foreign.status < 300;
                    let is_told = row.is_wrong() && foreign.status == 400;
                    let is_hidden = foreign.in_short()
                        == match row.access {
                            Access::Admin => "403 forbidden",
                            Access::Anyone | Access::SignedIn => "404 not_found",
                        };
                    ensure!(is_filter || is_told || is_hidden, "{what}: {foreign:?}");
                    tries += 1;
                }
            }
        }
        Ok(tries)
    }
}

/// The same request as it should be, and with something wrong in each part: what is wrong must not
/// be told of one id and not of the other.
fn spoiled(row: Row) -> Vec<Row> {
    let body = Row {
        body: r#"{"wrong": 1}"#,
        ..row
    };
    let query = Row {
        query: "wrong=1",
        ..row
    };
    vec![row, body, query]
}

impl Row {
    fn is_wrong(&self) -> bool {
        self.body.contains("wrong") || self.query.contains("wrong")
    }
}

/// The answer to a frame with this body; none for one that is not answered.
async fn ask(socket: &mut Socket, name: &str, body: &Value) -> Result<String> {
    let mut frame = body.clone();
    frame["type"] = name.into();
    if name != "delivered" {
        frame["id"] = "asked".into();
    }
    socket.send_text(frame.to_string()).await?;
    // Answered in any case, and after the frame.
    socket
        .send_text(r#"{"type": "ping", "id": "after"}"#)
        .await?;
    let mut answer = String::new();
    loop {
        match soon("an answer", socket.next_incoming()).await? {
            Incoming::Frame(ServerFrame::Pong { id }) if id == "after" => return Ok(answer),
            Incoming::Frame(ServerFrame::Error { mut error, .. }) => {
                let id = error.request_id.to_string();
                error.message = error.message.replace(&id, "REQUEST");
                answer = format!("error {} {} {:?}", error.code, error.message, error.details);
            }
            Incoming::Frame(ServerFrame::Ack { fields, .. }) => {
                answer = format!("ack {}", Value::Object(fields));
            }
            Incoming::Frame(_) => {}
            Incoming::Event(event) => answer.push_str(&event.text),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn for_a_stranger_anothers_object_is_a_missing_one_in_every_frame() -> Test {
    let tried = Tried::new().await?;
    let before = everything(&tried.victim, &tried.objects).await?;
    let all = frames(&tried.document)?;
    let mut tries = 0;
    for role in [Role::User, Role::Admin] {
        let stranger = tried.world.user(role).await?;
        let mut socket = Socket::connect(&stranger.client).await?;
        for (row, frame) in table::frames(&all)? {
            let body: Value = serde_json::from_str(row.body).context(row.name)?;
            for named in &frame.ids {
                let Place::Body(pointer) = &named.place else {
                    anyhow::bail!("a frame has nothing but a body");
                };
                for id in tried.objects.of_kind(&named.kind)? {
                    let (mut foreign, mut absent) = (body.clone(), body.clone());
                    put(&mut foreign, pointer, id);
                    put(&mut absent, pointer, &missing(id));
                    let foreign = ask(&mut socket, row.name, &foreign).await?;
                    let absent = ask(&mut socket, row.name, &absent).await?;
                    assert_eq!(foreign, absent, "{} {pointer}", row.name);
                    tried.knows_nothing(&foreign, row.name)?;
                    let is_filter = row.name == "subscribe" && foreign.starts_with("ack");
                    ensure!(
                        is_filter || foreign.starts_with("error not_found"),
                        "{} {pointer}: {foreign}",
                        row.name
                    );
                    tries += 1;
                }
            }
        }
        // Another's token does not make the socket another's.
        let token = tried.victim.client.token().context("the victim has one")?;
        let body = serde_json::json!({ "token": token });
        let refused = ask(&mut socket, "auth.refresh", &body).await?;
        ensure!(refused.starts_with("error forbidden"), "{refused}");
        assert_eq!(socket.ready().user_id, stranger.id);
    }
    ensure!(tries > 10, "only {tries} were tried");
    unchanged(&tried.victim, &tried.objects, &before).await
}
