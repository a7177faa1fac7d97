//! Clients and proxies as people have them: curl, and nginx as the operations page sets it up.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use netra_client::{Client, Credential, Feed, Method, Socket};
use netra_integration::{
    FakeModel, ProcessOptions, Proxy, Reply, TestProcess, TestUser, binary, soon, start,
};
use netra_protocol::frame::{After, Subscribe};
use netra_protocol::run::RunStatus;
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::Test;
use crate::expect::{hanging_model, names, until, with_model};

/// A program that a test needs, or how to get it.
fn program(name: &str) -> Result<Command> {
    let places = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
    let path = places.map(|place| Path::new(place).join(name));
    let Some(path) = path.iter().find(|path| path.is_file()) else {
        bail!(
            "{name} is missing: `apt-get install {name}` on Debian, or call `cargo xtask test \
             integration` as root, which installs it"
        );
    };
    let mut command = Command::new(path);
    command.kill_on_drop(true).stdin(Stdio::null());
    Ok(command)
}

/// An event stream as curl shows it.
struct Curl {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

/// One event of it: `id` and `event`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown {
    id: String,
    event: String,
}

impl Curl {
    fn open(client: &Client, path: &str, last: Option<&str>) -> Result<Self> {
        let token = client.token().context("it has one")?;
        let mut curl = program("curl")?;
        curl.args(["--no-buffer", "--silent", "--show-error", "--fail"])
            .args(["--header", &format!("Authorization: Bearer {token}")]);
        if let Some(last) = last {
            curl.args(["--header", &format!("Last-Event-ID: {last}")]);
        }
        let mut child = curl
            .arg(format!("{}{path}", client.base()))
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("it was asked for")?;
        let lines = BufReader::new(stdout).lines();
        Ok(Self { child, lines })
    }

    /// The next event; none at the end of the stream.
    async fn next(&mut self) -> Result<Option<Shown>> {
        let (mut id, mut event) = (String::new(), String::new());
        while let Some(line) = soon("a line from curl", self.lines.next_line()).await? {
            if let Some(text) = line.strip_prefix("id: ") {
                text.clone_into(&mut id);
            } else if let Some(text) = line.strip_prefix("event: ") {
                text.clone_into(&mut event);
            } else if line.is_empty() && !event.is_empty() {
                return Ok(Some(Shown { id, event }));
            }
        }
        Ok(None)
    }

    /// All up to the event of this name.
    async fn until(&mut self, name: &str) -> Result<Vec<Shown>> {
        let mut all: Vec<Shown> = Vec::new();
        while all.last().is_none_or(|last| last.event != name) {
            all.push(self.next().await?.with_context(|| format!("no {name}"))?);
        }
        Ok(all)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_takes_a_stream_up_again_where_it_was_cut_off() -> Test {
    let data = tempfile::tempdir()?;
    let server = TestProcess::start(data.path()).await?;
    let user = server.user("ada").await?;
    let run = user.run("echo", "a text").await?;

    let path = format!("/api/runs/{}/events", run.id);
    let mut whole = Curl::open(&user.client, &path, None)?;
    let told = whole.until("run_completed").await?;
    ensure!(whole.next().await?.is_none(), "the run's stream ends");
    ensure!(whole.child.wait().await?.success(), "and curl with it");

    for cut in 0..told.len() {
        let mut first = Curl::open(&user.client, "/api/events?after=0", None)?;
        let mut seen = Vec::new();
        for _ in 0..=cut {
            seen.push(first.next().await?.context("an event")?);
        }
        first.child.kill().await?;
        if let Some(last) = seen.last().filter(|last| last.event != "run_completed") {
            let mut rest = Curl::open(&user.client, "/api/events", Some(&last.id))?;
            seen.extend(rest.until("run_completed").await?);
        }
        assert_eq!(seen, told, "cut after {}", cut + 1);
    }
    Ok(())
}

/// nginx with the configuration of the operations page.
struct Nginx {
    _child: Child,
    _folder: tempfile::TempDir,
    url: String,
}

/// What the page says, for another server and another port.
fn documented(upstream: &str, listen: &str) -> Result<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations.md");
    let page = std::fs::read_to_string(page)?;
    let block = page
        .split_once("```nginx\n")
        .and_then(|(_, rest)| rest.split_once("```"))
        .context("the operations page has no configuration of nginx")?
        .0;
    for needed in ["http://127.0.0.1:8080", "listen 80;"] {
        ensure!(block.contains(needed), "the page no longer says {needed}");
    }
    Ok(block
        .replace("http://127.0.0.1:8080", upstream)
        .replace("listen 80;", &format!("listen {listen};")))
}

impl Nginx {
    /// In front of the server at this URL, with more said in the location where there is more.
    async fn start(upstream: &str, more: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = {
            let free = std::net::TcpListener::bind("127.0.0.1:0")?;
            free.local_addr()?
        };
        let site = documented(upstream, &address.to_string())?;
        let site = site.replace("proxy_http_version", &format!("{more}\nproxy_http_version"));
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|kind| format!("{kind}_temp_path {kind};\n"));
        // One process of our own, which goes with the test.
        let config = format!(
            "daemon off; master_process off; pid nginx.pid; error_log error.log;\n\
             events {{}}\nhttp {{\naccess_log off;\n{}{site}\n}}\n",
            temporary.concat()
        );
        std::fs::write(folder.path().join("nginx.conf"), config)?;
        let mut nginx = program("nginx")?;
        nginx
            .arg("-p")
            .arg(folder.path())
            .args(["-e", "error.log", "-c", "nginx.conf"])
            .stderr(Stdio::null());
        let mut child = nginx.spawn()?;
        let connects = async {
            while tokio::net::TcpStream::connect(address).await.is_err() {
                if let Some(status) = child.try_wait()? {
                    let log = std::fs::read_to_string(folder.path().join("error.log"))?;
                    bail!("nginx ended with {status}: {log}");
                }
                tokio::task::yield_now().await;
            }
            Ok(())
        };
        soon("nginx", connects).await?;
        Ok(Self {
            _child: child,
            _folder: folder,
            url: format!("http://{address}"),
        })
    }
}

fn everything() -> Subscribe {
    Subscribe {
        after: After::Seq(0),
        epoch: None,
        threads: None,
        deltas: false,
    }
}

/// nginx buffers what it passes on unless it is told not to, by itself or by the server.
const BUFFERING: [&str; 2] = ["", "proxy_buffering off;"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_nginx_events_come_as_they_happen() -> Test {
    for buffering in BUFFERING {
        let (_model, options) = hanging_model().await?;
        let options = ProcessOptions {
            environment: options.environment(),
            ..ProcessOptions::default()
        };
        let data = tempfile::tempdir()?;
        let server = TestProcess::start_with(data.path(), options).await?;
        let nginx = Nginx::start(server.url(), buffering).await?;
        let user = server.user("ada").await?;
        // What keeps nginx from collecting, whatever it thinks of chunks; it does not pass it on.
        let answer = user
            .client
            .request(Method::GET, "/api/events")
            .send()
            .await?;
        assert_eq!(answer.headers()["x-accel-buffering"], "no");
        let token = user.client.token().context("it has one")?;
        let client = Client::new(&nginx.url, Some(token))?;
        let user = TestUser { client, ..user };

        let mut by_ticket =
            Box::pin(Socket::connect_with(&user.client, Credential::Ticket)).await?;
        by_ticket.subscribe(everything()).await?;
        let mut all = Curl::open(&user.client, "/api/events?after=0", None)?;
        // The model never ends its answer, so nothing of this waits for the run's end.
        let run = user.start("assistant", "hello").await?;
        let path = format!("/api/runs/{}/events", run.id);
        let mut one = Curl::open(&user.client, &path, None)?;
        one.until("message_delta").await?;
        all.until("message_delta").await?;
        until(&mut by_ticket, "agent_started").await?;
        assert_eq!(user.client.run(run.id).await?.status, RunStatus::Running);

        let mut socket = user.socket().await?;
        socket.run_cancel(run.id).await?;
        until(&mut socket, "run_cancelled").await?;
        until(&mut by_ticket, "run_cancelled").await?;
        one.until("run_cancelled").await?;
        ensure!(one.next().await?.is_none(), "the run's stream ends");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_nginx_clients_go_on_after_the_server_was_killed() -> Test {
    let model = FakeModel::start(|_| Reply::Text(vec!["an answer".into()])).await?;
    let options = ProcessOptions {
        environment: with_model(&model).environment(),
        program: Some(binary()?),
        ..ProcessOptions::default()
    };
    for buffering in BUFFERING {
        let data = tempfile::tempdir()?;
        let mut server = TestProcess::start_with(data.path(), options.clone()).await?;
        // A server that starts again listens elsewhere; nginx is told one address.
        let proxy = Proxy::start(server.url(), 0)?;
        let nginx = Nginx::start(proxy.url(), buffering).await?;
        let user = server.user("ada").await?;
        let token = user.client.token().context("it has one")?;
        let client = Client::new(&nginx.url, Some(token))?;
        let user = TestUser { client, ..user };
        let mut feed = Box::pin(Feed::open(&user.client, everything())).await?;
        let mut all = Curl::open(&user.client, "/api/events?after=0", None)?;
        let before = user.run("assistant", "before").await?;
        let seen = all.until("run_completed").await?;

        server.signal(Signal::KILL)?;
        server.ended().await?;
        let again = TestProcess::start_with(data.path(), options.clone()).await?;
        proxy.aim(&[again.url()])?;

        let after = user
            .client
            .run_start(Some(before.thread_id), &start("assistant", "after"), None)
            .await?;
        let mut told = Vec::new();
        let ended = |told: &[netra_client::Received]| {
            let ends = told.iter().filter(|one| one.event.event.kind.is_terminal());
            ends.count() == 2
        };
        while !ended(&told) {
            told.push(soon("the feed", Box::pin(feed.next_event())).await?);
        }
        let last = seen.last().context("there were events")?;
        let mut rest = Curl::open(&user.client, "/api/events?deltas=false", Some(&last.id))?;
        let rest = rest.until("run_completed").await?;

        let mut right = user.events(before.id).await?;
        right.extend(user.events(after.id).await?);
        assert_eq!(names(&told), names(&right));
        let shown: Vec<&str> = rest.iter().map(|one| one.event.as_str()).collect();
        assert_eq!(shown, names(&user.events(after.id).await?));
    }
    Ok(())
}
