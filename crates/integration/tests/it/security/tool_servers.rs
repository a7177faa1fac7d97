//! Tool servers of users' own, and secrets that tool servers are given: each is its user's alone, and what a server
//! writes of a secret into all that it says is found nowhere.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use netra_client::{Client, Error, Method};
use netra_integration::{Options, ProcessOptions, TestProcess, TestServer, TestUser};
use netra_protocol::ErrorCode;
use netra_protocol::account::{Plan, Role};
use netra_protocol::run::RunStatus;
use netra_protocol::tool::{OwnToolServer, ToolServerState};
use serde_json::{Value, json};

use super::secrets::{FORMS, holders, put as put_secret};
use crate::Test;
use crate::expect::refused;
use crate::mcp::Place;
use crate::mcp::http::Http;
use netra_integration::script;

const CANARY: &str = super::secrets::CANARY;

async fn put(client: &Client, name: &str, body: Value) -> Result<OwnToolServer, Error> {
    let request = client.request(Method::PUT, &format!("/api/tool-servers/{name}"));
    let answer = client.send(request.json(&body)).await?;
    answer.json().await.map_err(Error::from)
}

async fn get(client: &Client, path: &str) -> Result<Value> {
    let answer = client.send(client.request(Method::GET, path)).await?;
    Ok(answer.json().await?)
}

async fn delete(client: &Client, name: &str) -> Result<(), Error> {
    let path = format!("/api/tool-servers/{name}");
    client
        .send(client.request(Method::DELETE, &path))
        .await
        .map(drop)
}

/// The names of the user's own tools as `/api/tools` has them.
async fn own_tools(client: &Client) -> Result<Vec<String>> {
    let tools = get(client, "/api/tools?limit=100").await?;
    let names = tools["items"].as_array().into_iter().flatten();
    let names = names.filter_map(|tool| tool["name"].as_str());
    Ok(names
        .filter(|name| name.starts_with("my_"))
        .map(str::to_owned)
        .collect())
}

fn agents(dir: &Path) -> Result<()> {
    script(
        dir,
        "counts",
        "tools = [\"my_*\"]\n",
        "my_notes__count()['text']\n",
    )?;
    let named = "tools = [\"my_notes__count\"]\n";
    script(dir, "named", named, "my_notes__count()['text']\n")?;
    script(
        dir,
        "without",
        "tools = [\"time_now\"]\n",
        "my_notes__count()['text']\n",
    )?;
    Ok(())
}

async fn server(dir: &Path, opened: &[String]) -> Result<TestServer> {
    let options = Options::new()
        .agents(dir)
        .set("tools.fetch.allow", opened.join(","));
    TestServer::start_with(options).await
}

async fn pro(server: &TestServer) -> Result<TestUser> {
    server.user_on(Role::User, Plan::Pro, None).await
}

async fn why_not(user: &TestUser, agent: &str) -> Result<String> {
    let run = user.run(agent, "go").await?;
    ensure!(run.status == RunStatus::Failed, "{agent}: {:?}", run.result);
    Ok(run.error.context("a failed run says why")?.message)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_tool_server_is_that_users_alone() -> Test {
    let (dir, http) = (tempfile::tempdir()?, Http::open()?);
    agents(dir.path())?;
    let server = server(dir.path(), &[http.place()]).await?;
    let (ada, bob) = (pro(&server).await?, pro(&server).await?);
    let added = put(&ada.client, "notes", json!({ "url": http.url() })).await?;
    assert_eq!(added.state, ToolServerState::Ready, "{added:?}");
    ensure!(
        added.tools.contains(&"my_notes__count".to_owned()),
        "{added:?}"
    );
    for (agent, count) in [("counts", "1"), ("named", "2")] {
        let run = ada.run(agent, "go").await?;
        assert_eq!(run.result, Some(json!(count)), "{:?}", run.error);
    }
    let listed = own_tools(&ada.client).await?;
    ensure!(listed.contains(&"my_notes__count".to_owned()), "{listed:?}");
    // An agent that does not name it has it not.
    let refused_by_list = why_not(&ada, "without").await?;
    ensure!(!refused_by_list.contains("notes is"), "{refused_by_list}");

    // Another user has nothing of it, and is not told that it is there.
    assert_eq!(own_tools(&bob.client).await?, Vec::<String>::new());
    let path = "/api/tool-servers/notes";
    for method in [Method::GET, Method::DELETE] {
        let foreign = bob.client.send(bob.client.request(method, path)).await;
        refused(foreign, 404, ErrorCode::NotFound)?;
    }
    let absent = why_not(&bob, "named").await?;
    ensure!(
        absent.contains("you have no tool server my_notes"),
        "{absent}"
    );
    ensure!(
        why_not(&bob, "counts").await?.contains("my_notes__count"),
        "there is no function"
    );
    // With the same name and the same place it is still an instance of one's own.
    put(&bob.client, "notes", json!({ "url": http.url() })).await?;
    let run = bob.run("named", "go").await?;
    assert_eq!(run.result, Some(json!("1")), "{:?}", run.error);

    delete(&ada.client, "notes").await?;
    refused(delete(&ada.client, "notes").await, 404, ErrorCode::NotFound)?;
    assert_eq!(own_tools(&ada.client).await?, Vec::<String>::new());
    ensure!(
        why_not(&ada, "named")
            .await?
            .contains("you have no tool server"),
        "it is gone"
    );
    ensure!(
        !own_tools(&bob.client).await?.is_empty(),
        "another's went too"
    );
    let audit = get(&ada.client, "/api/audit?limit=100").await?.to_string();
    for action in ["tool_server.put", "tool_server.delete"] {
        ensure!(audit.contains(action), "{action}: {audit}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_public_is_refused_when_it_is_named_and_when_it_is_reached() -> Test {
    let (dir, http) = (tempfile::tempdir()?, Http::open()?);
    agents(dir.path())?;
    let server = server(dir.path(), &[]).await?;
    let ada = pro(&server).await?;
    for url in [
        http.url(),
        format!("https://{}/mcp", http.place()),
        "https://2130706433/mcp".to_owned(),
        "https://[::ffff:127.0.0.1]/mcp".to_owned(),
        "https://169.254.169.254/latest/meta-data/".to_owned(),
        "https://10.0.0.7/mcp".to_owned(),
        "http://tools.example/mcp".to_owned(),
        "https://u:p@tools.example/mcp".to_owned(),
        "unix:///run/docker.sock".to_owned(),
    ] {
        let named = put(&ada.client, "notes", json!({ "url": url })).await;
        refused(named, 400, ErrorCode::InvalidRequest).context(url)?;
    }
    // A name is judged by what it leads to, when it is connected to.
    let local = put(
        &ada.client,
        "notes",
        json!({ "url": "https://localhost:8443/mcp" }),
    )
    .await?;
    assert_eq!(local.state, ToolServerState::Away);
    let problem = local.problem.context("it says why")?;
    ensure!(problem.contains("not public"), "{problem}");
    ensure!(
        why_not(&ada, "named").await?.contains("not public"),
        "it was reached"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_server_needs_a_policy_good_words_and_room() -> Test {
    let dir = tempfile::tempdir()?;
    agents(dir.path())?;
    let nobody = "127.0.0.1:9".to_owned();
    let url = format!("http://{nobody}/mcp");
    let server = server(dir.path(), &[nobody]).await?;
    let (free, ada) = (server.user().await?, pro(&server).await?);
    let not_permitted = put(&free.client, "notes", json!({ "url": url })).await;
    let error = not_permitted.err().context("the plan free may not")?;
    ensure!(error.to_string().contains("needs the plan pro"), "{error}");
    refused::<()>(Err(error), 403, ErrorCode::Forbidden)?;
    for (name, body) in [
        ("Notes", json!({ "url": url })),
        ("a__b", json!({ "url": url })),
        (
            "notes",
            json!({ "url": url, "headers": { "Host": { "secret": "t" } } }),
        ),
        (
            "notes",
            json!({ "url": url, "headers": { "A": { "secret": "a b" } } }),
        ),
        ("notes", json!({ "url": url, "headers": { "A": "plain" } })),
    ] {
        refused(
            put(&ada.client, name, body).await,
            400,
            ErrorCode::InvalidRequest,
        )?;
    }
    let command = json!({ "url": url, "command": "/bin/sh" });
    refused(
        put(&ada.client, "notes", command).await,
        400,
        ErrorCode::UnknownField,
    )?;
    for number in 0..10 {
        put(&ada.client, &format!("s{number}"), json!({ "url": url })).await?;
    }
    let one_more = put(&ada.client, "one_more", json!({ "url": url })).await;
    refused(one_more, 409, ErrorCode::Conflict)?;
    // Not a new one.
    put(&ada.client, "s0", json!({ "url": url })).await?;
    // What a policy permits no more is not reached any more.
    let admin = server.user_as(Role::Admin, None).await?.client;
    let request = admin.request(Method::PATCH, &format!("/api/admin/users/{}", ada.id));
    admin.send(request.json(&json!({ "plan": "free" }))).await?;
    let shown = get(&ada.client, "/api/tool-servers/s0").await?;
    ensure!(
        shown["problem"].to_string().contains("needs the plan pro"),
        "{shown}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_gets_its_users_secret_by_name_and_a_new_one_makes_a_new_instance() -> Test {
    let place = Place::new()?;
    let tools = "tools = [\"fake__who\", \"fake__token\"]\n";
    let code = "[fake__who()['text'].split(' ')[0], fake__token()['text']]\n";
    script(&place.path("agents"), "teller", tools, code)?;
    let file = place.configured("env = { TOKEN = { secret = \"wiki\", prefix = \"t=\" } }\n")?;
    let options = Options::new()
        .set("agents.dir", place.path("agents").display())
        .set("log.level", "trace");
    let process = ProcessOptions {
        environment: options.environment(),
        arguments: vec!["--config".to_owned(), file.display().to_string()],
        ..ProcessOptions::default()
    };
    let data = place.path("data");
    let server = TestProcess::start_with(&data, process).await?;
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let admin = server.user_as("root", Role::Admin).await?;
    let shown = admin.client.tool_servers().await?.items;
    assert_eq!(shown[0].state, ToolServerState::PerUser, "{shown:?}");
    let refused = why_not(&ada, "teller").await?;
    ensure!(
        refused.contains("there is no secret \"wiki\" for mcp:fake"),
        "{refused}"
    );
    let good = json!({ "value": CANARY, "hosts": ["mcp:fake"] });
    for body in [
        json!({ "value": CANARY, "hosts": ["mcp:other", "fake"] }),
        good.clone(),
    ] {
        let bound = body == good;
        put_secret(&ada.client, "wiki", body).await?;
        ensure!(
            bound
                || why_not(&ada, "teller")
                    .await?
                    .contains("is not for mcp:fake"),
            "bound"
        );
    }
    let told = async |user: &TestUser| -> Result<(String, Value)> {
        let run = user.run("teller", "go").await?;
        let result = run.result.with_context(|| format!("{:?}", run.error))?;
        Ok((result[0].to_string(), result[1].clone()))
    };
    let (first, token) = told(&ada).await?;
    assert_eq!(token, "t=[secret wiki]");
    assert_eq!(told(&ada).await?.0, first, "one secret, one instance");
    let other = json!({ "value": "another secret of hers", "hosts": ["mcp:fake"] });
    put_secret(&ada.client, "wiki", other).await?;
    let (second, token) = told(&ada).await?;
    assert_eq!(token, "t=[secret wiki]");
    ensure!(second != first, "the instance has the old secret");
    ensure!(
        why_not(&bob, "teller")
            .await?
            .contains("there is no secret"),
        "it is another's"
    );
    // What it says when it does not start goes into the log, without the secret.
    std::fs::write(place.path("notes/broken"), "")?;
    put_secret(&bob.client, "wiki", good).await?;
    ensure!(
        why_not(&bob, "teller").await?.contains("exit code 3"),
        "it is broken"
    );
    let log = server.log()?;
    ensure!(
        log.contains("the folder is broken for t=[secret wiki]"),
        "the log says it"
    );
    for word in FORMS.into_iter().chain(["another secret of hers"]) {
        ensure!(!log.contains(word), "{word} is in the log");
    }
    let holders = holders(&data, &FORMS.map(str::as_bytes))?;
    ensure!(holders.is_empty(), "{holders:?}");
    Ok(())
}

/// A tool that writes its environment down told users what the operator had configured.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_in_the_configuration_of_a_tool_server_is_told_to_nobody() -> Test {
    let place = Place::new()?;
    let tools = "tools = [\"fake__token\"]\n";
    let code = "fake__token()['text']\n";
    script(&place.path("agents"), "teller", tools, code)?;
    let server = place
        .start("env = { TOKEN = \"plain/of \\\"the\\\" operator\" }\n")
        .await?;
    let ada = server.user().await?;
    let run = ada.run("teller", "go").await?;
    assert_eq!(run.result, Some(json!("[secret TOKEN]")), "{:?}", run.error);
    for received in ada.events(run.id).await? {
        let told = &received.text;
        ensure!(!told.contains("plain/of"), "{told}");
    }
    Ok(())
}

/// A server with a tool server `crm` that it signs in to by OAuth, and an agent that uses it.
async fn with_oauth(folder: &Path, http: &Http) -> Result<TestProcess> {
    let configuration = format!(
        "[mcp.servers.crm]\nurl = {:?}\npermission = \"basic\"\n\
         oauth = {{ client_id = \"netra\", client_secret = {{ secret = \"wiki\" }} }}\n",
        http.url()
    );
    let file = folder.join("netra.toml");
    std::fs::write(&file, configuration)?;
    let agents = folder.join("agents");
    std::fs::create_dir(&agents)?;
    let tools = "tools = [\"crm__who\", \"crm__mirror\", \"crm__forget\"]\n";
    let code = "[crm__who(), crm__forget(), crm__mirror()['text']]\n";
    script(&agents, "client", tools, code)?;
    let options = Options::new()
        .set("agents.dir", agents.display())
        .set("log.level", "trace");
    let process = ProcessOptions {
        environment: options.environment(),
        arguments: vec!["--config".to_owned(), file.display().to_string()],
        ..ProcessOptions::default()
    };
    TestProcess::start_with(&folder.join("data"), process).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_oauth_are_had_with_a_users_secret_renewed_and_never_told() -> Test {
    let (folder, http) = (tempfile::tempdir()?, Http::with_tokens("here", CANARY)?);
    let server = with_oauth(folder.path(), &http).await?;
    let (user, other) = (server.user("ada").await?, server.user("bob").await?);
    let secret = json!({ "value": CANARY, "hosts": [http.place()] });
    put_secret(&user.client, "wiki", secret).await?;
    let run = user.run("client", "go").await?;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    let result = run.result.clone().context("no result")?;
    assert_eq!(result[0]["text"], "Bearer [secret token]");
    // The first one was forgotten, so another one was had; it is told backwards, which is nobody's form.
    let mirrored = result[2].as_str().context("a text")?;
    let renewed: String = mirrored.chars().rev().collect();
    ensure!(renewed.starts_with("Bearer canary-of-token-"), "{result}");
    // Who has no secret of one's own has no tools there, and is told why.
    let refused = why_not(&other, "client").await?;
    ensure!(refused.contains("there is no secret \"wiki\""), "{refused}");

    let mut told = serde_json::to_string(&run)?;
    for received in user.events(run.id).await? {
        told.push_str(&received.text);
    }
    for path in ["/api/tools?limit=100", "/api/audit?limit=100"] {
        told.push_str(&get(&user.client, path).await?.to_string());
    }
    ensure!(
        told.contains("for Bearer [secret token]"),
        "the descriptions are not there"
    );
    told.push_str(&server.log()?);
    let words: Vec<&str> = FORMS.into_iter().chain(["canary-of-token"]).collect();
    for word in &words {
        ensure!(!told.contains(word), "{word} was told");
    }
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    let holders = holders(&folder.path().join("data"), &words)?;
    ensure!(holders.is_empty(), "{holders:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_server_cannot_have_the_secret_sent_to_another_host() -> Test {
    let (folder, evil) = (tempfile::tempdir()?, Http::guarded()?);
    let issuer = format!("http://localhost:{}", evil.port);
    let http = Http::with_tokens(&issuer, CANARY)?;
    let server = with_oauth(folder.path(), &http).await?;
    let user = server.user("ada").await?;
    let secret = json!({ "value": CANARY, "hosts": [http.place()] });
    put_secret(&user.client, "wiki", secret).await?;
    let refused = why_not(&user, "client").await?;
    ensure!(
        refused.contains("it wants tokens of localhost"),
        "{refused}"
    );
    ensure!(refused.contains("oauth.token_url"), "{refused}");
    Ok(())
}

const AGENT: &str = "said = [my_notes__who(), my_notes__mirror()['text']]
try:
    my_notes__wrong()
except RuntimeError as error:
    said.append(str(error))
try:
    my_notes__misshape()
except RuntimeError as error:
    said.append(str(error))
think(str(said))
save_file(name='said.txt', content=str(said))
said
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_goes_to_its_tool_server_and_is_found_nowhere_else() -> Test {
    let (folder, http, other) = (tempfile::tempdir()?, Http::guarded()?, Http::guarded()?);
    script(
        folder.path(),
        "courier",
        "tools = [\"my_*\", \"save_file\"]\n",
        AGENT,
    )?;
    let allow = format!("{},{}", http.place(), other.place());
    let options = Options::new()
        .set("agents.dir", folder.path().display())
        .set("tools.fetch.allow", allow)
        .set("log.level", "trace");
    let process = ProcessOptions {
        environment: options.environment(),
        ..ProcessOptions::default()
    };
    let data = folder.path().join("data");
    let server = TestProcess::start_with(&data, process).await?;
    let user = server.user_on("ada", Role::User, Plan::Pro).await?;
    let client = &user.client;
    let headers = json!({ "Authorization": { "secret": "wiki", "prefix": "Bearer " } });
    let body = |http: &Http| json!({ "url": http.url(), "headers": headers.clone() });
    let before = put(client, "notes", body(&http)).await?;
    let problem = before.problem.context("the secret is not there")?;
    ensure!(problem.contains("there is no secret \"wiki\""), "{problem}");
    let secret = json!({ "value": CANARY, "hosts": [http.place()] });
    put_secret(client, "wiki", secret).await?;
    let added = get(client, "/api/tool-servers/notes").await?;
    assert_eq!(added["state"], "ready", "{added}");
    // To another host it does not go.
    let elsewhere = put(client, "elsewhere", body(&other)).await?;
    let problem = elsewhere.problem.context("it is bound to the other")?;
    ensure!(problem.contains("is not for 127.0.0.1"), "{problem}");
    delete(client, "elsewhere").await?;

    let run = user.run("courier", "go").await?;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    let result = run.result.clone().context("no result")?;
    let sent: String = format!("Bearer {CANARY}").chars().rev().collect();
    assert_eq!(result[1], json!(sent), "it was not sent as it is");
    assert_eq!(result[0]["text"], "Bearer [secret wiki]");
    let misfit = result[3].as_str().context("a text")?;
    let words = "does not fit the tool's own schema: /n: ";
    ensure!(misfit.contains(words), "{misfit}");

    let mut told = serde_json::to_string(&run)?;
    for received in user.events(run.id).await? {
        told.push_str(&received.text);
    }
    for path in [
        "/api/tool-servers",
        "/api/tools?limit=100",
        "/api/audit?limit=100",
        "/api/runs",
        "/api/files",
    ] {
        told.push_str(&get(client, path).await?.to_string());
    }
    ensure!(
        told.contains("\"secrets\":[\"wiki\"]"),
        "the audit does not name it"
    );
    ensure!(
        told.contains("for Bearer [secret wiki]"),
        "the descriptions are not there"
    );
    told.push_str(&server.log()?);
    for word in FORMS {
        ensure!(!told.contains(word), "{word} was told");
    }
    let holders = holders(&data, &FORMS.map(str::as_bytes))?;
    ensure!(holders.is_empty(), "{holders:?}");
    Ok(())
}
