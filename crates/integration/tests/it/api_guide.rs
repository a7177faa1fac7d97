//! The examples of the API guide, as `docs/api-guide.md` has them: curl and Rust here, Python and TypeScript with the tests
//! of their clients.

use anyhow::{Context as _, Result, ensure};
use netra_client::{Client, Error, Upload};
use netra_integration::{TestServer, soon};
use netra_protocol::run::StartRun;
use netra_protocol::thread::CreateThread;
use tokio::process::Command;

use crate::Test;

const PAGE: &str = include_str!("../../../../docs/api-guide.md");
const OWN: &str = include_str!("api_guide.rs");

/// An example, and what it says.
struct Example<'a> {
    code: &'a str,
    says: &'a str,
}

/// The examples in a language, each with the output that stands behind it.
fn examples(language: &str) -> Result<Vec<Example<'static>>> {
    let mut found = Vec::new();
    // The first block says how the variables are set.
    let (_, page) = PAGE.split_once("\n## ").context("a first task")?;
    for part in page.split(&format!("\n```{language}\n")).skip(1) {
        let (code, rest) = part.split_once("```\n").context("its end")?;
        let rest = rest.strip_prefix("\n```text\n").context("what it says")?;
        let (says, _) = rest.split_once("```").context("its end")?;
        found.push(Example { code, says });
    }
    ensure!(!found.is_empty(), "no example in {language}");
    Ok(found)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_with_curl_say_what_the_guide_says() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    for Example { code, says } in examples("sh")? {
        let folder = tempfile::tempdir()?;
        let run = Command::new("bash")
            .args(["-euo", "pipefail", "-c", code])
            .env("NETRA_URL", server.url())
            .env("NETRA_TOKEN", user.client.token().context("a token")?)
            .current_dir(folder.path())
            .output();
        let output = soon("the example's end", run).await?;
        let said = String::from_utf8_lossy(&output.stdout);
        let failed = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success() && said == says,
            "{code}\n{said}{failed}"
        );
    }
    Ok(())
}

type Said = Result<Vec<String>>;

async fn result(url: &str, token: &str) -> Said {
    let mut said = Vec::new();
    macro_rules! println {
        ($($what:tt)*) => { said.push(format!($($what)*)) };
    }
    // guide
    let netra = Client::new(url, Some(token.into()))?;
    let run = netra
        .run_start(None, &StartRun::new("echo", "hello"), None)
        .await?;
    let run = netra.run_end(run.id).await?;
    println!("{}", run.result.unwrap_or_default()["text"]);
    // end
    Ok(said)
}

async fn events(url: &str, token: &str) -> Said {
    let mut said = Vec::new();
    macro_rules! println {
        ($($what:tt)*) => { said.push(format!($($what)*)) };
    }
    // guide
    let netra = Client::new(url, Some(token.into()))?;
    let run = netra
        .run_start(None, &StartRun::new("echo", "hello"), None)
        .await?;
    let mut events = netra.run_events(run.id);
    while let Some(received) = events.next().await? {
        let kind = &received.event.event.kind;
        if !kind.is_delta() {
            println!("{}", kind.name());
        }
    }
    // end
    Ok(said)
}

async fn file(url: &str, token: &str) -> Said {
    let mut said = Vec::new();
    macro_rules! println {
        ($($what:tt)*) => { said.push(format!($($what)*)) };
    }
    // guide
    let netra = Client::new(url, Some(token.into()))?;
    let content = Upload::Bytes("model,tokens\nsmall,12\n".into());
    let file = netra.file_upload("log.csv", content).await?;
    let start = StartRun {
        files: vec![file.id],
        ..StartRun::new("echo", "read it")
    };
    let run = netra.run_start(None, &start, None).await?;
    let run = netra.run_end(run.id).await?;
    println!("{} {} {}", file.name, file.bytes, run.status.as_str());
    // end
    Ok(said)
}

async fn once(url: &str, token: &str) -> Said {
    let mut said = Vec::new();
    macro_rules! println {
        ($($what:tt)*) => { said.push(format!($($what)*)) };
    }
    // guide
    let netra = Client::new(url, Some(token.into()))?;
    let start = StartRun::new("echo", "once");
    let first = netra.run_start(None, &start, Some("order-17-rust")).await?;
    let again = netra.run_start(None, &start, Some("order-17-rust")).await?;
    println!(
        "{}",
        if first.id == again.id {
            "one run"
        } else {
            "two runs"
        }
    );
    // end
    Ok(said)
}

async fn error(url: &str, token: &str) -> Said {
    let mut said = Vec::new();
    macro_rules! println {
        ($($what:tt)*) => { said.push(format!($($what)*)) };
    }
    // guide
    let netra = Client::new(url, Some(token.into()))?;
    let thread = CreateThread {
        title: Some("x".repeat(201)),
        ..CreateThread::default()
    };
    match netra.thread_create(&thread).await {
        Err(Error::Refused { status, detail, .. }) => {
            let details = detail.details.unwrap_or_default();
            let code = detail.code;
            println!("{status} {code} {} {}", details["field"], details["rule"]);
        }
        other => println!("{other:?}"),
    }
    // end
    Ok(said)
}

/// The code between the marks of this file, as the page has it.
fn own() -> Vec<String> {
    let parts = OWN.split("    // guide\n").skip(1);
    let codes = parts.filter_map(|part| part.split_once("    // end\n"));
    let dedented = codes.map(|(code, _)| {
        let lines = code
            .lines()
            .map(|line| line.strip_prefix("    ").unwrap_or(line));
        lines.map(|line| format!("{line}\n")).collect()
    });
    dedented.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_in_rust_are_these_and_say_what_the_guide_says() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let examples = examples("rust")?;
    let codes: Vec<String> = examples.iter().map(|one| one.code.to_owned()).collect();
    assert_eq!(codes, own());
    let (url, token) = (server.url(), user.client.token().context("a token")?);
    let said = [
        result(url, &token).await?,
        events(url, &token).await?,
        file(url, &token).await?,
        once(url, &token).await?,
        error(url, &token).await?,
    ];
    for (example, said) in examples.iter().zip(said) {
        let said: String = said.iter().map(|line| format!("{line}\n")).collect();
        assert_eq!(said, example.says, "{}", example.code);
    }
    Ok(())
}
