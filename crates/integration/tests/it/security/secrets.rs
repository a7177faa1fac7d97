//! A secret's way: to the host that its owner has bound it to, and nowhere else. A canary is looked for in everything
//! that the server tells, stores, logs and counts.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::{Context as _, Result, ensure};
use netra_client::{Client, Error, Method};
use netra_integration::{Options, ProcessOptions, TestProcess, TestServer, output};
use netra_protocol::ErrorCode;
use netra_protocol::run::RunStatus;
use netra_protocol::secret::SecretInfo;
use serde_json::{Value, json};

use crate::Test;
use crate::expect::refused;
use crate::scripts::script;

const CANARY: &str = "canary/of+the secret~42";

/// Sends every request's head back as the page, three times over, and tells it to the test.
fn mirror() -> Result<(u16, Receiver<String>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let (tell, told) = sync_channel(64);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let Ok(copy) = stream.try_clone() else { return };
            let mut lines = BufReader::new(copy);
            let mut head = String::new();
            while lines.read_line(&mut head).unwrap_or(0) > 2 {}
            let page = head.repeat(3);
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\netag: {}\r\ncontent-length: {}\r\n\r\n{page}",
                CANARY,
                page.len()
            );
            tell.send(head).ok();
            stream.write_all(answer.as_bytes()).ok();
        }
    });
    Ok((port, told))
}

/// Uses the secret in every way that an agent has: for its host, for another, in a file, a thought, a note, an error.
const AGENT: &str = "here, there = input['text'].split(' ')
said = http_fetch(url=here, bearer_secret='wiki')
cut = http_fetch(url=here, bearer_secret='wiki', max_bytes=60)
again = http_fetch(url=here)
think(str(said))
save_file(name='said.txt', content=str(said))
remember(name='said', text=str(cut))
words = []
for url, name in [(there, 'wiki'), (here, 'none'), (there, 'none')]:
    try:
        http_fetch(url=url, bearer_secret=name)
        words.append('sent')
    except RuntimeError as error:
        words.append(str(error))
{'said': said, 'cut': cut, 'again': again, 'words': words}
";

async fn put(client: &Client, name: &str, body: Value) -> Result<SecretInfo, Error> {
    let request = client.request(Method::PUT, &format!("/api/secrets/{name}"));
    client
        .send(request.json(&body))
        .await?
        .json()
        .await
        .map_err(Error::from)
}

/// What of the data folder holds one of these words.
fn holders(dir: &Path, words: &[&[u8]]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(holders(&path, words)?);
        } else {
            let content = std::fs::read(&path)?;
            let has = |word: &&[u8]| content.windows(word.len()).any(|part| part == *word);
            if words.iter().any(has) {
                found.push(path);
            }
        }
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_goes_to_its_host_and_is_found_nowhere_else() -> Test {
    let folder = tempfile::tempdir()?;
    let (port, told) = mirror()?;
    let (strange, told_to_stranger) = mirror()?;
    let tools = "tools = [\"http_fetch\", \"save_file\", \"remember\"]\n";
    script(folder.path(), "courier", tools, AGENT)?;
    let policies = folder.path().join("policies");
    std::fs::create_dir(&policies)?;
    std::fs::write(
        policies.join("all.cedar"),
        "permit (principal, action, resource);",
    )?;
    let data = folder.path().join("data");
    let allow = format!("127.0.0.1:{port},127.0.0.1:{strange}");
    let options = Options::new()
        .agents(folder.path())
        .set("tools.fetch.allow", allow)
        .set("policy.dir", policies.display())
        .set("metrics.token", "token-of-the-metrics")
        .set("log.level", "trace");
    let process = ProcessOptions {
        environment: options.environment(),
        ..ProcessOptions::default()
    };
    let server = TestProcess::start_with(&data, process).await?;
    let user = server.user("ada").await?;
    let secret = json!({ "value": CANARY, "hosts": [format!("127.0.0.1:{port}")] });
    let kept = put(&user.client, "wiki", secret).await?;
    let mut seen = format!("{kept:?}");

    let urls = format!("http://127.0.0.1:{port}/ http://127.0.0.1:{strange}/");
    let run = user.run("courier", urls).await?;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    let result = run.result.clone().context("no result")?;
    seen.push_str(&result.to_string());
    let words: Vec<&str> = result["words"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    ensure!(words[0].contains("is not for 127.0.0.1"), "{words:?}");
    ensure!(
        words[1].contains("there is no secret") && words[2].contains("there is no secret"),
        "{words:?}"
    );
    let head = told.recv()?;
    ensure!(
        head.contains(&format!("authorization: Bearer {CANARY}")),
        "it did not go out: {head}"
    );
    ensure!(
        told_to_stranger.try_recv().is_err(),
        "a stranger was asked with a secret"
    );
    ensure!(
        result["said"].to_string().contains("[secret wiki]"),
        "{result}"
    );

    for received in user.events(run.id).await? {
        seen.push_str(&received.text);
    }
    for path in [
        "/api/secrets/wiki",
        "/api/audit",
        "/api/runs",
        "/api/approvals",
        "/api/files",
        "/api/tools",
        "/api/usage",
    ] {
        seen.push_str(
            &user
                .client
                .send(user.client.request(Method::GET, path))
                .await?
                .text()
                .await?,
        );
    }
    let messages = user.client.messages(run.thread_id, None, None).await?;
    seen.push_str(&format!("{messages:?}"));
    let metrics = user.client.with_token("token-of-the-metrics");
    seen.push_str(
        &metrics
            .send(metrics.request(Method::GET, "/api/metrics"))
            .await?
            .text()
            .await?,
    );
    let of = data.to_string_lossy();
    let exported = output(&["audit", "export", "--data", &of], "").await?;
    seen.push_str(&String::from_utf8_lossy(&exported.stdout));
    let misuse = put(
        &user.client,
        "wiki",
        json!({ "value": CANARY, "hosts": ["*"] }),
    )
    .await;
    seen.push_str(&format!("{misuse:?}"));
    let log = server.log()?;
    ensure!(log.len() > 10_000, "the log says little: {}", log.len());
    seen.push_str(&log);

    let encoded = [
        "Y2FuYXJ5L29mK3RoZSBzZWNyZXR+NDI",
        "canary%2Fof%2Bthe%20secret",
    ];
    ensure!(
        seen.contains("\"secrets\":[\"wiki\"]"),
        "the audit does not name the secret"
    );
    for word in [CANARY, encoded[0], encoded[1], "canary/of+the"] {
        ensure!(
            !seen.contains(word),
            "{word} was told: {}",
            around(&seen, word)
        );
    }
    let words = [
        CANARY.as_bytes(),
        encoded[0].as_bytes(),
        encoded[1].as_bytes(),
        b"canary/of+the",
    ];
    let holders = holders(&data, &words)?;
    ensure!(holders.is_empty(), "{holders:?}");
    Ok(())
}

/// Some of the text about a word.
fn around<'a>(text: &'a str, word: &str) -> &'a str {
    let at = text.find(word).unwrap_or(0);
    let (from, to) = (at.saturating_sub(200), (at + 200).min(text.len()));
    text.get(from..to).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_its_owners_and_what_is_none_is_refused() -> Test {
    let server = TestServer::start().await?;
    let (ada, bob) = (server.user().await?, server.user().await?);
    let good = json!({ "value": "a-good-secret", "hosts": ["api.example.com"] });
    put(&ada.client, "wiki", good.clone()).await?;
    let at = |client: &Client, method| client.request(method, "/api/secrets/wiki");
    for method in [Method::GET, Method::DELETE] {
        let foreign = bob.client.send(at(&bob.client, method)).await;
        refused(foreign, 404, ErrorCode::NotFound)?;
    }
    for (name, body) in [
        ("wiki", json!({ "value": "short" })),
        ("wiki", json!({ "value": "x".repeat(20_000) })),
        ("wiki", json!({ "value": "line\nline-break" })),
        (
            "wiki",
            json!({ "value": "a-good-secret", "hosts": ["https://api.example.com"] }),
        ),
        (
            "wiki",
            json!({ "value": "a-good-secret", "hosts": vec!["a"; 21] }),
        ),
        ("a%20b", good.clone()),
    ] {
        refused(
            put(&ada.client, name, body).await,
            400,
            ErrorCode::InvalidRequest,
        )?;
    }
    let unknown = json!({ "value": "a-good-secret", "host": "a" });
    refused(
        put(&ada.client, "wiki", unknown).await,
        400,
        ErrorCode::UnknownField,
    )?;
    ada.client.send(at(&ada.client, Method::DELETE)).await?;
    let gone = ada.client.send(at(&ada.client, Method::GET)).await;
    refused(gone, 404, ErrorCode::NotFound)?;
    Ok(())
}
