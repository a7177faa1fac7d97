//! Instances of two users, and what they reach of each other and of this machine.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use netra_integration::TestUser;
use serde_json::json;

use crate::Test;
use crate::mcp::real::installed::{Installed, open_folder};
use crate::mcp::real::process::variable;
use crate::mcp::real::world::{World, call, failure, text};

const READ: &str = "files__read_text_file";
const WRITE: &str = "files__write_file";
const LIST: &str = "files__list_directory";
const INSTANCE: &str = "server-filesystem";

/// A server that itself would give all files of the machine: what it does not reach, the sandbox keeps from it.
async fn world(shared: &Path) -> Result<World> {
    let server = Installed::find()?
        .files(Path::new("/"))?
        .with("write", [shared]);
    let world = World::start(&[server], &[READ, WRITE, LIST]).await?;
    world.ready("files").await?;
    Ok(world)
}

async fn refused(user: &TestUser, tool: &str, path: &str) -> Result<()> {
    let told = failure(user, tool, json!({"path": path, "content": "x"})).await?;
    ensure!(told.starts_with("tool_failed: "), "{path}: {told}");
    ensure!(
        ["EACCES", "EPERM", "ENOENT", "EROFS"]
            .iter()
            .any(|code| told.contains(code)),
        "{path}: {told}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_users_have_two_instances_and_neither_reaches_the_others_folder() -> Test {
    let shared = open_folder()?;
    let world = world(shared.path()).await?;
    let (ada, bob) = (world.user("ada").await?, world.user("bob").await?);
    let usr = json!({"path": "/usr"});
    call(&ada, LIST, usr.clone()).await?;
    let of_ada = world.instances(INSTANCE, 1).await?;
    call(&bob, LIST, usr).await?;
    let both = world.instances(INSTANCE, 2).await?;
    ensure!(both.contains(&of_ada[0]), "{of_ada:?} {both:?}");
    assert_eq!(world.shown("files").await?.instances, 2);

    let home = variable(of_ada[0], "HOME")?;
    let diary = format!("{home}/diary.txt");
    // Written as she sees the files: her folder may be nowhere else.
    fs::write(format!("/proc/{}/root{diary}", of_ada[0]), "dear diary")?;
    let read = call(&ada, READ, json!({"path": diary})).await?;
    assert_eq!(text(&read), "dear diary");
    refused(&bob, READ, &diary).await?;
    refused(&bob, LIST, &home).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_reaches_no_file_that_it_was_not_given() -> Test {
    let shared = open_folder()?;
    let others = open_folder()?;
    let secret = others.path().join("secret.txt");
    fs::write(&secret, "secret")?;
    let world = world(shared.path()).await?;
    let user = world.user("ada").await?;
    let data = world.data.path();
    let keys = data.join("keys").display().to_string();
    let database = fs::read_dir(data)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|ending| ending == "db"));
    let database = database
        .context("there is a database")?
        .display()
        .to_string();
    let secret = secret.display().to_string();
    for path in ["/etc/shadow", "/etc/passwd", &keys, &database, &secret] {
        refused(&user, READ, path).await?;
    }
    // Files that are there: for new ones this server reads all folders above first, and fails by that already.
    for path in [&secret, &keys, &database] {
        refused(&user, WRITE, path).await?;
    }
    assert_eq!(fs::read_to_string(&secret)?, "secret");
    let given = shared.path().join("given.txt").display().to_string();
    fs::write(&given, "")?;
    call(&user, WRITE, json!({"path": given, "content": "x"})).await?;
    assert_eq!(fs::read_to_string(&given)?, "x");
    Ok(())
}
