//! A secret's way: to the host that its owner has bound it to, and nowhere else. A canary is looked for in everything
//! that the server tells, stores, logs and counts.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::{Context as _, Result, ensure};
use netra_client::{Client, Error, Method};
use netra_integration::{Options, ProcessOptions, TestProcess, TestServer, TestUser, output};
use netra_protocol::ErrorCode;
use netra_protocol::run::{Run, RunStatus};
use netra_protocol::secret::SecretInfo;
use serde_json::{Value, json};

use crate::Test;
use crate::expect::refused;
use netra_integration::script;

pub(super) const CANARY: &str = "canary/of+the secret~42";
/// As it is, in base64, percent-encoded, and cut off.
pub(super) const FORMS: [&str; 4] = [
    CANARY,
    "Y2FuYXJ5L29mK3RoZSBzZWNyZXR+NDI",
    "canary%2Fof%2Bthe%20secret",
    "canary/of+the",
];
pub(super) const METRICS: &str = "token-of-the-metrics";

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

pub(super) async fn put(client: &Client, name: &str, body: Value) -> Result<SecretInfo, Error> {
    let request = client.request(Method::PUT, &format!("/api/secrets/{name}"));
    client
        .send(request.json(&body))
        .await?
        .json()
        .await
        .map_err(Error::from)
}

/// What of the data folder holds one of these words.
pub(super) fn holders(dir: &Path, words: &[&[u8]]) -> Result<Vec<PathBuf>> {
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

/// A server whose log tells everything, with the agent, and two sites: the secret's own and a stranger's.
struct Scene {
    folder: tempfile::TempDir,
    server: TestProcess,
    own: (u16, Receiver<String>),
    strange: (u16, Receiver<String>),
}

impl Scene {
    async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (own, strange) = (mirror()?, mirror()?);
        let tools = "tools = [\"http_fetch\", \"save_file\", \"remember\"]\n";
        script(folder.path(), "courier", tools, AGENT)?;
        let policies = folder.path().join("policies");
        std::fs::create_dir(&policies)?;
        let all = "permit (principal, action, resource);";
        std::fs::write(policies.join("all.cedar"), all)?;
        let options = Options::new()
            .set("agents.dir", folder.path().display())
            .set(
                "tools.fetch.allow",
                format!("127.0.0.1:{},127.0.0.1:{}", own.0, strange.0),
            )
            .set("policy.dir", policies.display())
            .set("metrics.token", METRICS)
            .set("log.level", "trace");
        let process = ProcessOptions {
            environment: options.environment(),
            ..ProcessOptions::default()
        };
        let server = TestProcess::start_with(&folder.path().join("data"), process).await?;
        Ok(Self {
            folder,
            server,
            own,
            strange,
        })
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// All that the server tells the user, the operator and the scraper, and its log.
    async fn told(&self, user: &TestUser, run: &Run) -> Result<String> {
        let mut told = serde_json::to_string(run)?;
        for received in user.events(run.id).await? {
            told.push_str(&received.text);
        }
        let metrics = user.client.with_token(METRICS);
        for (client, path) in [
            (&user.client, "/api/secrets/wiki"),
            (&user.client, "/api/audit"),
            (&user.client, "/api/runs"),
            (&user.client, "/api/approvals"),
            (&user.client, "/api/files"),
            (&user.client, "/api/tools"),
            (&user.client, "/api/usage"),
            (&metrics, "/api/metrics"),
        ] {
            let answer = client.send(client.request(Method::GET, path)).await;
            told.push_str(&answer.with_context(|| path.to_owned())?.text().await?);
        }
        let messages = user.client.messages(run.thread_id, None, None).await?;
        told.push_str(&serde_json::to_string(&messages)?);
        let data = self.data();
        let export = ["audit", "export", "--data", &data.to_string_lossy()];
        told.push_str(&String::from_utf8_lossy(&output(&export, "").await?.stdout));
        let misuse = json!({ "value": CANARY, "hosts": ["*"] });
        told.push_str(&format!("{:?}", put(&user.client, "wiki", misuse).await));
        let log = self.server.log()?;
        ensure!(log.len() > 1_000, "the log says little: {}", log.len());
        told.push_str(&log);
        Ok(told)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_goes_to_its_host_and_is_found_nowhere_else() -> Test {
    let scene = Scene::start().await?;
    let user = scene.server.user("ada").await?;
    let (port, strange) = (scene.own.0, scene.strange.0);
    let secret = json!({ "value": CANARY, "hosts": [format!("127.0.0.1:{port}")] });
    let kept = put(&user.client, "wiki", secret).await?;
    assert_eq!(kept.hosts.len(), 1);

    let urls = format!("http://127.0.0.1:{port}/ http://127.0.0.1:{strange}/");
    let run = user.run("courier", urls).await?;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    let result = run.result.clone().context("no result")?;
    let words = result["words"].as_array().into_iter().flatten();
    let words: Vec<&str> = words.filter_map(Value::as_str).collect();
    ensure!(words[0].contains("is not for 127.0.0.1"), "{words:?}");
    for unknown in &words[1..] {
        ensure!(unknown.contains("there is no secret"), "{words:?}");
    }
    let head = scene.own.1.recv()?;
    let sent = format!("authorization: Bearer {CANARY}");
    ensure!(head.contains(&sent), "it did not go out: {head}");
    let asked = scene.strange.1.try_recv();
    ensure!(asked.is_err(), "a stranger was asked with a secret");
    let said = result["said"].to_string();
    ensure!(said.contains("[secret wiki]"), "{said}");

    let told = scene.told(&user, &run).await?;
    let names_it = told.contains("\"secrets\":[\"wiki\"]");
    ensure!(names_it, "the audit does not name the secret");
    for word in FORMS {
        let place = around(&told, word);
        ensure!(!told.contains(word), "{word} was told: {place}");
    }
    let holders = holders(&scene.data(), &FORMS.map(str::as_bytes))?;
    ensure!(holders.is_empty(), "{holders:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_goes_to_its_host_also_after_its_key_was_changed_beside_the_server() -> Test {
    let scene = Scene::start().await?;
    let user = scene.server.user("ada").await?;
    let (port, strange) = (scene.own.0, scene.strange.0);
    let secret = json!({ "value": CANARY, "hosts": [format!("127.0.0.1:{port}")] });
    put(&user.client, "wiki", secret).await?;
    let file = scene.data().join("secret-keys");
    let before = std::fs::read_to_string(&file)?;
    let data = scene.data();
    let rotate = ["secrets", "rotate", "--data", &data.to_string_lossy()];
    let ended = output(&rotate, "").await?;
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    ensure!(ended.status.success(), "{said}");
    let told = "a new key is in force; 1 secrets were encrypted with it";
    ensure!(said.contains(told), "{said}");
    let after = std::fs::read_to_string(&file)?;
    let stays = |key: &str| after.lines().any(|line| line == key);
    ensure!(!before.lines().any(stays), "the old key is still there");
    ensure!(!after.is_empty(), "there is no key");

    let urls = format!("http://127.0.0.1:{port}/ http://127.0.0.1:{strange}/");
    let run = user.run("courier", urls).await?;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    let head = scene.own.1.recv()?;
    let sent = format!("authorization: Bearer {CANARY}");
    ensure!(head.contains(&sent), "it did not go out: {head}");
    Ok(())
}

/// Some of the text about a word.
pub(super) fn around<'a>(text: &'a str, word: &str) -> &'a str {
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
