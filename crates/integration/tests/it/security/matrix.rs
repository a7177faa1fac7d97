//! Who may do what: measured over the wire, and compared with a file that people review.

use anyhow::{Context as _, Result};
use netra_client::{Client, Socket};
use netra_integration::{TestServer, TestTool, TestUser};
use netra_protocol::account::{Plan, Role};
use serde_json::Value;

use super::contract::{Place, document, frames, operations, put};
use super::table;
use super::world::{Objects, World, attempt, unlimited};
use crate::Test;

/// Compares with a file beside this one. A difference leaves what was measured where it can be
/// looked at and taken over.
fn same_as(golden: &str, name: &str, measured: &str) -> Test {
    if golden == measured {
        return Ok(());
    }
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(name);
    std::fs::write(&path, measured)?;
    let gone = golden.lines().filter(|line| !measured.contains(line));
    let new = measured.lines().filter(|line| !golden.contains(line));
    let lines: Vec<String> = gone
        .map(|line| format!("- {line}"))
        .chain(new.map(|line| format!("+ {line}")))
        .collect();
    anyhow::bail!(
        "who may do what has changed:\n{}\nIf that is right: cp {} {}/tests/it/security/{name}",
        lines.join("\n"),
        path.display(),
        env!("CARGO_MANIFEST_DIR"),
    )
}

fn lined_up(rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let line: String = cells
            .map(|(cell, width)| format!("{cell:<width$}  "))
            .collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Everybody whose rights are measured. The first asks for what is their own.
struct People {
    world: World,
    owner: TestUser,
    others: Vec<(&'static str, Client)>,
}

impl People {
    async fn new() -> Result<Self> {
        let world = World::start().await?;
        let mut others = vec![("nobody", world.server.anonymous()?)];
        for (name, role) in [
            ("user", Role::User),
            ("developer", Role::Developer),
            ("admin", Role::Admin),
        ] {
            others.push((name, world.user(role).await?.client));
        }
        Ok(Self {
            owner: world.user(Role::User).await?,
            world,
            others,
        })
    }

    fn head(&self) -> Vec<String> {
        let others = self.others.iter().map(|(name, _)| *name);
        ["", "key", "owner"]
            .into_iter()
            .chain(others)
            .map(str::to_owned)
            .collect()
    }
}

/// What a key needs, which the tests of keys hold true.
fn scopes(row: &table::Row) -> String {
    let none = if row.access == table::Access::Anyone {
        ""
    } else {
        "any"
    };
    let scopes = if row.scopes.is_empty() {
        none
    } else {
        row.scopes
    };
    scopes.replace(' ', "+")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_role_may_do_what_the_reviewed_table_says_over_http() -> Test {
    let people = People::new().await?;
    let document = document(&people.owner.client).await?;
    let all = operations(&document)?;
    let mut rows = vec![people.head()];
    for (row, operation) in table::operations(&all)? {
        let kind = operation
            .ids
            .iter()
            .find(|named| named.place == Place::Path);
        let objects = match kind {
            Some(_) => Some(people.world.furnish(&people.owner, "owned").await?),
            None => None,
        };
        let object = match (&objects, kind) {
            (Some(objects), Some(named)) => objects.fit_for(row.name, &named.kind)?,
            _ => "",
        };
        let mut cells = vec![row.name.to_owned(), scopes(&row), String::new()];
        // The owner comes last: what is deleted is gone for everybody.
        for (_, client) in &people.others {
            let answer = attempt(client, (row, operation), object, None).await?;
            cells.push(answer.in_short());
        }
        let answer = attempt(&people.owner.client, (row, operation), object, None).await?;
        cells[2] = answer.in_short();
        rows.push(cells);
    }
    same_as(
        include_str!("matrix-http.txt"),
        "matrix-http.txt",
        &lined_up(&rows),
    )
}

/// A frame on one object of each kind that it names.
async fn framed(client: &Client, name: &str, body: &Value) -> Result<String> {
    let mut socket = match Socket::connect(client).await {
        Ok(socket) => socket,
        Err(error) => return Ok(format!("{} at the door", error.code().context("a code")?)),
    };
    let mut frame = body.clone();
    frame["type"] = name.into();
    let frame = serde_json::from_value(frame)?;
    if name == "delivered" {
        return Ok("not answered".into());
    }
    Ok(match socket.request(frame).await {
        Ok(_) => "ack".into(),
        Err(error) => error.code().context("a code")?.to_string(),
    })
}

fn filled(row: &table::Row, frame: &super::contract::Frame, objects: &Objects) -> Result<Value> {
    let mut body: Value = serde_json::from_str(row.body)?;
    for named in &frame.ids {
        if let Place::Body(pointer) = &named.place {
            let operation = if row.name == "run.cancel" {
                "run_cancel"
            } else {
                row.name
            };
            put(&mut body, pointer, objects.fit_for(operation, &named.kind)?);
        }
    }
    Ok(body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_role_may_do_what_the_reviewed_table_says_over_the_socket() -> Test {
    let people = People::new().await?;
    let document = document(&people.owner.client).await?;
    let all = frames(&document)?;
    let mut rows = vec![people.head()];
    for (row, frame) in table::frames(&all)? {
        let objects = people.world.furnish(&people.owner, "owned").await?;
        let body = filled(&row, frame, &objects)?;
        let mut cells = vec![row.name.to_owned(), scopes(&row), String::new()];
        for (_, client) in &people.others {
            cells.push(framed(client, row.name, &body).await?);
        }
        cells[2] = framed(&people.owner.client, row.name, &body).await?;
        rows.push(cells);
    }
    same_as(
        include_str!("matrix-frames.txt"),
        "matrix-frames.txt",
        &lined_up(&rows),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_role_and_plan_has_the_tools_that_the_reviewed_table_says() -> Test {
    let mut options = unlimited();
    for permission in [
        "data_management",
        "advanced_optimization",
        "system_management",
        "developer_tools",
        "unknown",
    ] {
        let needs = TestTool::new(&format!("needs_{permission}"), permission, |_| {
            Ok(Value::Null)
        });
        options = options.tool(needs);
    }
    let server = TestServer::start_with(options).await?;
    let mut rows = vec![vec![String::new()]];
    for plan in [Plan::Free, Plan::Pro, Plan::Enterprise] {
        for role in [Role::User, Role::Developer, Role::Admin] {
            let user = server.user_on(role, plan, None).await?;
            let tools = user.client.tools().await?.items;
            rows[0].push(format!("{}/{}", plan.as_str(), role.as_str()));
            rows.resize(tools.len() + 1, Vec::new());
            for (tool, row) in tools.iter().zip(&mut rows[1..]) {
                if row.is_empty() {
                    row.push(tool.name.clone());
                }
                row.push(if tool.allowed { "yes" } else { "no" }.into());
            }
        }
    }
    same_as(
        include_str!("matrix-tools.txt"),
        "matrix-tools.txt",
        &lined_up(&rows),
    )
}
