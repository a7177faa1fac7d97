//! Many users do everything at once, in an order that a seed draws. Whatever a user says holds that
//! user's canary: none of them ever stands in what another is told, nor in the log or the metrics.

mod scene;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use netra_client::{Client, Method, Socket};
use netra_integration::{TestProcess, TestUser, output, soon};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::sync::Notify;

use self::scene::{SAME, agents, parrot, start};
use super::two_users::ids;
use super::world::log_of;
use crate::Test;

const SEEDS: [u64; 2] = [4, 2_026];
const USERS: usize = 10;
const ACTIONS: usize = 24;
const MARK: &str = "canary-";
/// What the answers begin with that the model gives to what everybody asks: no two are the same, so one that two users
/// are told was made for one of them.
const ANSWER: &str = "made-for-one-";
/// One that everybody uses: what it stands for is each user's own.
const IDEMPOTENCY_KEY: &str = "everybody's";

/// Ids of everybody's objects: each user tries some of the others' too.
type Pool = Arc<Mutex<Vec<(usize, &'static str, String)>>>;

/// One user, and what has been seen of the server.
struct Person {
    number: usize,
    user: TestUser,
    word: String,
    random: StdRng,
    pool: Pool,
    ids: BTreeSet<String>,
    /// How often the own word came back: a test in which nothing is said finds nothing.
    heard: usize,
}

/// Every canary in a text.
fn canaries(text: &str) -> impl Iterator<Item = &str> {
    marked(text, MARK)
}

fn marked<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(mark)
        .map(move |(at, _)| text.get(at..at + mark.len() + 8).unwrap_or(mark))
}

/// What reaches a socket of the user's until the acting is over. Another's word is the end at once.
async fn listen(socket: &mut Socket, word: &str, over: &Notify) -> Result<Vec<String>> {
    let (mut told, mut over) = (Vec::new(), pin!(over.notified()));
    loop {
        let text = tokio::select! {
            () = &mut over => return Ok(told),
            received = socket.next_event() => received?.text,
        };
        let foreign = canaries(&text).find(|canary| *canary != word);
        ensure!(foreign.is_none(), "a socket told {word} of another: {text}");
        told.push(text);
    }
}

impl Person {
    /// Takes down what was told, and fails where it is another's.
    fn hears(&mut self, what: &str, text: &str) -> Test {
        for canary in canaries(text) {
            ensure!(
                canary == self.word,
                "{what} told {} of {canary}: {text}",
                self.word
            );
            self.heard += 1;
        }
        self.ids.extend(ids(text));
        self.ids.extend(marked(text, ANSWER).map(str::to_owned));
        Ok(())
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(u16, Value)> {
        let mut request = self
            .user
            .client
            .request(method.clone(), &format!("/api/{path}"));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = soon(path, request.send()).await?;
        let (status, headers) = (answer.status().as_u16(), format!("{:?}", answer.headers()));
        let text = answer.text().await?;
        self.hears(path, &headers)?;
        self.hears(path, &text)?;
        ensure!(status < 500, "{method} {path}: {status} {text}");
        Ok((status, serde_json::from_str(&text).unwrap_or_default()))
    }

    async fn get(&mut self, path: &str) -> Result<Value> {
        Ok(self.send(Method::GET, path, None).await?.1)
    }

    /// Remembers what was made, for everybody to try.
    fn made(&self, kind: &'static str, object: &Value) {
        if let Some(id) = object["id"].as_str() {
            let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
            pool.push((self.number, kind, id.to_owned()));
        }
    }

    /// An object of this kind: mostly an own one.
    fn some(&mut self, kind: &str) -> Option<(bool, String)> {
        let foreign = self.random.random_bool(0.15);
        let pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting: Vec<_> = pool
            .iter()
            .filter(|(owner, of, _)| *of == kind && (*owner == self.number) != foreign)
            .collect();
        let chosen = self.random.random_range(0..fitting.len().max(1));
        fitting.get(chosen).map(|(_, _, id)| (foreign, id.clone()))
    }

    async fn on_some(
        &mut self,
        kind: &str,
        method: Method,
        rest: &str,
        body: Option<Value>,
    ) -> Test {
        let Some((foreign, id)) = self.some(kind) else {
            return Ok(());
        };
        let (status, _) = self
            .send(method, &format!("{kind}/{id}{rest}"), body)
            .await?;
        ensure!(!foreign || status == 404, "{kind} of another: {status}");
        Ok(())
    }

    /// Something that a person is asked for, who says yes or no.
    async fn asked(&mut self) -> Test {
        let start = json!({"agent": "asker", "input": self.word});
        let (_, run) = self.send(Method::POST, "runs", Some(start)).await?;
        let waits = |of: &Value| {
            let all = of["items"].as_array().into_iter().flatten();
            let mut own = all.filter(|one| one["run_id"] == run["id"]);
            own.next().cloned()
        };
        let listed = async {
            loop {
                if let Some(approval) = waits(&self.get("approvals?limit=100").await?) {
                    return anyhow::Ok(approval);
                }
            }
        };
        let approval = soon("a person is asked", listed).await?;
        self.made("approvals", &approval);
        let id = approval["id"].as_str().context("an id")?;
        let decision = ["approve", "deny"][usize::from(self.random.random_bool(0.3))];
        let answer = json!({"decision": decision, "note": self.word});
        self.send(
            Method::POST,
            &format!("approvals/{id}"),
            Some(answer.clone()),
        )
        .await?;
        // Another's, now and then, or the same once more.
        self.on_some("approvals", Method::POST, "", Some(answer))
            .await?;
        let id = run["id"].as_str().context("an id")?;
        self.get(&format!("runs/{id}/wait?timeout_ms=20000"))
            .await
            .map(drop)
    }

    /// What everybody asks for in the same words.
    async fn same(&mut self) -> Test {
        let start = json!({"agent": "same", "input": SAME});
        let (_, run) = self.send(Method::POST, "runs", Some(start)).await?;
        let id = run["id"].as_str().context("it was started")?;
        let run = self
            .get(&format!("runs/{id}/wait?timeout_ms=20000"))
            .await?;
        let result = run["result"].to_string();
        ensure!(result.contains(ANSWER), "{run}");
        Ok(())
    }

    /// All that is the user's, as an archive that is not packed.
    async fn take_along(&mut self) -> Test {
        let request = self.user.client.request(Method::GET, "/api/me/export");
        let answer = self.user.client.send(request).await?.bytes().await?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        ensure!(canaries(&text).count() > 10, "the archive has nothing");
        self.hears("the export", &text)
    }

    async fn run(&mut self, agent: &str) -> Test {
        let word = self.word.clone();
        let thread = self.some("threads").filter(|(foreign, _)| !foreign);
        let path = match thread {
            Some((_, id)) if self.random.random_bool(0.3) => format!("threads/{id}/runs"),
            _ => "runs".to_owned(),
        };
        let start = json!({"agent": agent, "input": word, "metadata": {"word": word}});
        let (_, run) = self.send(Method::POST, &path, Some(start)).await?;
        self.made("runs", &run);
        let Some(id) = run["id"].as_str() else {
            return Ok(());
        };
        match self.random.random_range(0..4) {
            0 => self
                .send(Method::POST, &format!("runs/{id}/cancel"), None)
                .await
                .map(drop)?,
            1 => self.stream(&format!("/api/runs/{id}/events")).await?,
            _ => self
                .get(&format!("runs/{id}/wait?timeout_ms=20000"))
                .await
                .map(drop)?,
        }
        Ok(())
    }

    async fn stream(&mut self, path: &str) -> Test {
        let answer = self.user.client.request(Method::GET, path).send().await?;
        let text = soon("the run's stream", answer.text()).await?;
        self.hears(path, &text)
    }

    /// Under a key that the others use for theirs: the first time makes the run, and then it is found again.
    async fn once(&mut self) -> Test {
        let start = json!({"agent": "echo", "input": self.word, "metadata": {"word": self.word}});
        let request = self.user.client.request(Method::POST, "/api/runs");
        let request = request.header("idempotency-key", IDEMPOTENCY_KEY);
        let answer = soon("a run", request.json(&start).send()).await?;
        let (status, text) = (answer.status(), answer.text().await?);
        self.hears("a run made once", &text)?;
        ensure!(
            status == 202 && text.contains(&self.word),
            "{status} {text}"
        );
        self.made("runs", &serde_json::from_str(&text)?);
        Ok(())
    }

    /// Something wrong, with the word in it.
    async fn err(&mut self) -> Test {
        let word = self.word.clone();
        let wrong = match self.random.random_range(0..5) {
            0 => ("runs", json!({"agent": word, "input": word})),
            1 => (
                "runs",
                json!({"agent": "echo", "input": {"text": word, "more": word}}),
            ),
            2 => ("runs", json!({"agent": "echo", word.as_str(): word})),
            3 => ("threads", json!({"title": [word]})),
            _ => ("threads/thr_canary/fork", json!({"after_message_id": word})),
        };
        self.send(Method::POST, wrong.0, Some(wrong.1)).await?;
        let mut socket = Socket::connect(&self.user.client).await?;
        let garbage = json!({"type": word, "id": word, word.as_str(): word}).to_string();
        socket.send_text(garbage).await?;
        let answer = soon("an answer", socket.next_incoming()).await?;
        self.hears("a frame", &format!("{answer:?}"))
    }

    async fn act(&mut self) -> Test {
        let word = self.word.clone();
        match self.random.random_range(0..18) {
            0 => {
                let upload = self
                    .user
                    .client
                    .request(Method::POST, &format!("/api/files?name={word}.csv"));
                let text = self
                    .user
                    .client
                    .send(upload.body(word))
                    .await?
                    .text()
                    .await?;
                self.hears("an upload", &text)?;
                self.made("files", &serde_json::from_str(&text)?);
                Ok(())
            }
            1 => {
                let thread = json!({"title": word, "metadata": {"word": word}});
                let (_, thread) = self.send(Method::POST, "threads", Some(thread)).await?;
                self.made("threads", &thread);
                Ok(())
            }
            2 => {
                self.on_some("threads", Method::PATCH, "", Some(json!({"title": word})))
                    .await
            }
            3 => {
                self.on_some("threads", Method::GET, "/messages?limit=100", None)
                    .await
            }
            4 => {
                self.on_some("threads", Method::POST, "/fork", Some(json!({})))
                    .await
            }
            5 => self.on_some("files", Method::GET, "/content", None).await,
            6 => self.on_some("runs", Method::POST, "/retry", None).await,
            7 => self.on_some("runs", Method::GET, "", None).await,
            8 => self.run("echo").await,
            9 => self.run("keeper").await,
            10 => self.run("breaker").await,
            11 => self.run("writer").await,
            12 => self.err().await,
            13 => self.run("rememberer").await,
            14 => self.once().await,
            15 => self.asked().await,
            16 => self.same().await,
            _ => {
                let delete = self.random.random_bool(0.3);
                let method = if delete { Method::DELETE } else { Method::GET };
                self.get(&format!("threads?q={word}&limit=100")).await?;
                self.on_some("files", method, "", None).await
            }
        }
    }

    /// All actions beside a socket that is told everything, then all lists, the export, and all events of the user's log.
    async fn live(mut self) -> Result<Self> {
        let mut socket = self.user.socket().await?;
        let (word, over) = (self.word.clone(), Notify::new());
        let acting = async {
            let acted = self.acts().await;
            over.notify_one();
            acted
        };
        let (acted, told) = tokio::join!(acting, listen(&mut socket, &word, &over));
        acted.with_context(|| word.clone())?;
        let told = told?;
        ensure!(told.len() > 20, "{word} was told {} events", told.len());
        for text in told {
            self.hears("a socket", &text)?;
        }
        self.looks().await?;
        Ok(self)
    }

    async fn acts(&mut self) -> Test {
        for _ in 0..ACTIONS {
            self.act().await?;
        }
        // Whatever was drawn: what everybody asks for, twice, of which the second is known.
        self.same().await?;
        self.same().await?;
        self.asked().await
    }

    async fn looks(&mut self) -> Test {
        for path in [
            "auth/me",
            "auth/sessions",
            "agents",
            "tools",
            "usage",
            "approvals",
            "audit?limit=100",
        ] {
            self.get(path).await?;
        }
        for path in ["files", "threads", "runs"] {
            self.get(&format!("{path}?limit=100")).await?;
        }
        for received in log_of(&self.user.client).await? {
            self.hears("an event", &received.text)?;
        }
        self.take_along().await
    }
}

async fn people(server: &TestProcess, seed: u64) -> Result<Vec<Person>> {
    let mut random = StdRng::seed_from_u64(seed);
    let pool = Pool::default();
    let mut people = Vec::new();
    for number in 0..USERS {
        people.push(Person {
            number,
            user: server.user(&format!("user-{seed}-{number}")).await?,
            word: format!("{MARK}{:08x}", random.random::<u32>()),
            random: StdRng::seed_from_u64(random.random()),
            pool: Arc::clone(&pool),
            ids: BTreeSet::new(),
            heard: 0,
        });
    }
    Ok(people)
}

/// What the operator writes out of a user's audit names nothing that is another's, and has nobody's words.
async fn exported(data: &std::path::Path, people: &mut [Person]) -> Test {
    for person in people {
        let data = data.to_string_lossy();
        let export = [
            "audit",
            "export",
            "--data",
            &data,
            "--user",
            &person.user.name,
        ];
        let ended = output(&export, "").await?;
        let text = String::from_utf8(ended.stdout)?;
        ensure!(
            ended.status.success() && text.contains("tool.call"),
            "{text}"
        );
        // What somebody says to an approval is for the audit, and is one's own.
        let note = json!(person.word).to_string();
        let without = text.replace(&format!("\"note\":{note}"), "");
        ensure!(
            !without.contains(MARK),
            "the audit repeats what a user said: {text}"
        );
        person.ids.extend(ids(&text));
    }
    Ok(())
}

/// No two have been told the same id.
fn ids_are_apart(people: &[Person]) -> Test {
    let mut known: BTreeMap<&str, &str> = BTreeMap::new();
    for person in people {
        for id in &person.ids {
            if let Some(other) = known.insert(id, &person.word) {
                anyhow::bail!("{id} was told to {} and to {other}", person.word);
            }
        }
    }
    Ok(())
}

/// The log and the metrics name nobody's words, and the metrics nobody at all.
async fn nothing_outside(server: &TestProcess, client: &Client, people: &[Person]) -> Test {
    let log = server.log()?;
    ensure!(log.lines().count() > 500, "the log is there");
    let told = log.lines().find(|line| line.contains(MARK));
    ensure!(told.is_none(), "the log repeats what a user said: {told:?}");
    let admin = client.with_token("for the metrics");
    let metrics = admin
        .send(admin.request(Method::GET, "/api/metrics"))
        .await?;
    let metrics = metrics.text().await?;
    ensure!(metrics.contains("netra_runs_ended_total"), "{metrics}");
    let hit = r#"netra_model_cache_lookups_total{outcome="hit"}"#;
    ensure!(
        metrics.contains(hit),
        "nothing came from the cache: {metrics}"
    );
    ensure!(
        !metrics.contains(MARK),
        "the metrics repeat what a user said"
    );
    let known = ids(&metrics);
    ensure!(known.is_empty(), "the metrics name {known:?}");
    for person in people {
        ensure!(
            !metrics.contains(&person.user.name),
            "the metrics name a user"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_word_of_a_user_reaches_another_whatever_all_do_at_once() -> Test {
    let (data, model, agents) = (tempfile::tempdir()?, parrot().await?, agents()?);
    let server = start(data.path(), &model, agents.path()).await?;
    let mut all = Vec::new();
    for seed in SEEDS {
        let people = people(&server, seed).await?;
        let lives = people.into_iter().map(Person::live);
        let lived = futures::future::try_join_all(lives).await;
        all.extend(lived.with_context(|| format!("seed {seed}"))?);
    }
    for person in &all {
        ensure!(person.heard > 20, "{} heard {}", person.word, person.heard);
    }
    exported(data.path(), &mut all).await?;
    ids_are_apart(&all)?;
    nothing_outside(&server, &all[0].user.client, &all).await
}
