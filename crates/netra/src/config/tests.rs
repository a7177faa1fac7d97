//! Tests of the configuration as a whole.

use std::io::Write as _;

use super::*;

fn env(pairs: &[(&str, &str)]) -> Layers {
    let pairs = pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    Layers::new().environment(pairs)
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[test]
fn without_any_layer_the_contracts_defaults_hold() {
    let config = Config::load(Layers::new()).unwrap();
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.registration, Registration::Closed);
    assert_eq!(config.listen, "127.0.0.1:8080".parse().unwrap());
    assert!(config.models.providers.is_empty());
}

#[test]
fn the_catalogue_and_the_defaults_know_the_same_keys() {
    let printed: Vec<_> = Layers::new()
        .settings()
        .unwrap()
        .into_iter()
        .map(|setting| setting.key)
        .collect();
    let catalogue: Vec<_> = CATALOGUE
        .iter()
        .map(|key| key.path)
        .filter(|path| !path.contains('*'))
        .collect();
    assert_eq!(printed, catalogue);
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file = file("[limits]\nsteps = 1\ndepth = 1\ntool_calls = 1\n");
    let layers = env(&[
        ("NETRA__LIMITS__DEPTH", "2"),
        ("NETRA__LIMITS__TOOL_CALLS", "2"),
    ])
    .file(Some(file.path()))
    .flag("limits.tool_calls", "tool-calls", 3);
    let config = Config::load(layers.clone()).unwrap();
    assert_eq!(
        (
            config.limits.steps,
            config.limits.depth,
            config.limits.tool_calls
        ),
        (1, 2, 3)
    );

    let source = |key: &str| {
        let settings = layers.settings().unwrap();
        settings
            .into_iter()
            .find(|setting| setting.key == key)
            .unwrap()
            .source
            .to_string()
    };
    assert_eq!(
        source("limits.steps"),
        format!("file {}", file.path().display())
    );
    assert_eq!(
        source("limits.depth"),
        "environment variable NETRA__LIMITS__DEPTH"
    );
    assert_eq!(source("limits.tool_calls"), "flag --tool-calls");
    assert_eq!(source("limits.attempts"), "default");
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest() {
    let error = Config::load(env(&[("NETRA__LIMITS__CONCURENT_RUNS", "2")])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "unknown key `limits.concurent_runs` (environment variable \
         NETRA__LIMITS__CONCURENT_RUNS); did you mean `limits.concurrent_runs`?"
    );
    let file = file("[sever]\nlisten = \"127.0.0.1:1\"\n");
    let error = Config::load(Layers::new().file(Some(file.path())))
        .unwrap_err()
        .to_string();
    assert!(error.contains("did you mean `server.listen`?"), "{error}");
    let error = Config::load(env(&[("NETRA__ZZZ", "2")]))
        .unwrap_err()
        .to_string();
    assert!(error.contains("netra config print"), "{error}");
}

#[test]
fn wrong_values_name_their_key() {
    for (name, value, wanted) in [
        ("NETRA__LIMITS__STEPS", "many", "limits.steps"),
        ("NETRA__LIMITS__STEPS", "0", "limits.steps"),
        ("NETRA__LIMITS__STEPS", "-1", "limits.steps"),
        (
            "NETRA__AUTH__REGISTRATION",
            "sometimes",
            "auth.registration",
        ),
        ("NETRA__SERVER__LISTEN", "everywhere", "server.listen"),
        (
            "NETRA__LIMITS__RUN_TIMEOUT_MS",
            "999999999",
            "limits.run_timeout_ms",
        ),
        ("NETRA__WORKERS__SCRIPTS", "0", "workers.scripts"),
        ("NETRA__SERVER__HEARTBEAT_MS", "10", "server.heartbeat_ms"),
        ("NETRA__TOOLS__FETCH__ALLOW", "wiki", "tools.fetch.allow"),
    ] {
        let error = Config::load(env(&[(name, value)])).unwrap_err().to_string();
        assert!(error.contains(wanted), "{name}={value}: {error}");
    }
}

#[test]
fn a_broken_file_names_its_line() {
    let file = file("[limits]\nsteps = \n");
    let error = Config::load(Layers::new().file(Some(file.path())))
        .unwrap_err()
        .to_string();
    assert!(error.contains("line 2"), "{error}");
    let missing = Layers::new().file(Some(Path::new("/no/such/netra.toml")));
    assert!(
        Config::load(missing)
            .unwrap_err()
            .to_string()
            .contains("/no/such/netra.toml")
    );
}

#[test]
fn providers_come_from_the_environment_and_their_keys_are_not_shown() {
    let key = file("  sk-from-file\n");
    let layers = env(&[
        ("NETRA__MODELS__DEFAULT", "local/small"),
        (
            "NETRA__MODELS__PROVIDERS__LOCAL__BASE_URL",
            "http://127.0.0.1:1/v1",
        ),
        ("NETRA__MODELS__PROVIDERS__LOCAL__API_KEY", "12345"),
        ("NETRA__MODELS__PROVIDERS__LOCAL__MODELS", "small, large"),
        (
            "NETRA__MODELS__PROVIDERS__FAR__BASE_URL",
            "https://far.example/v1",
        ),
        (
            "NETRA__MODELS__PROVIDERS__FAR__API_KEY_FILE",
            &key.path().display().to_string(),
        ),
    ]);
    let config = Config::load(layers.clone()).unwrap();
    let local = &config.models.providers["local"];
    assert_eq!(local.api_key.as_ref().unwrap().expose(), "12345");
    assert_eq!(local.models, ["small", "large"]);
    assert_eq!(
        config.models.providers["far"]
            .api_key
            .as_ref()
            .unwrap()
            .expose(),
        "sk-from-file"
    );

    let printed = serde_json::to_string(&layers.settings().unwrap()).unwrap();
    assert!(printed.contains("models.providers.local.api_key"));
    assert!(!printed.contains("12345"), "{printed}");
}

#[test]
fn the_usual_variables_make_providers_where_the_configuration_names_none() {
    let usual = [("OPENAI_API_KEY", "hush-1"), ("OLLAMA_HOST", "localhost")];
    let layers = env(&usual);
    let config = Config::load(layers.clone()).unwrap();
    let providers = &config.models.providers;
    assert_eq!(providers.keys().collect::<Vec<_>>(), ["ollama", "openai"]);
    let key = providers["openai"].api_key.as_ref().unwrap();
    assert_eq!(key.expose(), "hush-1");
    let settings = layers.settings().unwrap();
    let shown = settings
        .iter()
        .find(|setting| setting.key == "models.providers.openai.api_key");
    let shown = format!("{:?}", shown.unwrap());
    assert!(shown.contains("OPENAI_API_KEY"), "{shown}");
    assert!(!shown.contains("hush"), "{shown}");
    let named = ("NETRA__MODELS__PROVIDERS__MINE__KIND", "gemini");
    let config = Config::load(env(&[usual[0], usual[1], named])).unwrap();
    assert_eq!(config.models.providers.keys().collect::<Vec<_>>(), ["mine"]);
}

#[test]
fn the_development_mode_stays_on_this_machine() {
    let everywhere = env(&[
        ("NETRA__SERVER__DEV", "true"),
        ("NETRA__SERVER__LISTEN", "0.0.0.0:1"),
    ]);
    let error = Config::load(everywhere).unwrap_err().to_string();
    assert!(error.contains("loopback"), "{error}");
    let here = env(&[
        ("NETRA__SERVER__DEV", "true"),
        ("NETRA__SERVER__LISTEN", "localhost:1"),
    ]);
    assert!(Config::load(here).unwrap().dev);
}

#[test]
fn other_variables_are_none_of_ours() {
    assert!(Config::load(env(&[("NETRA_HOME", "x"), ("PATH", "/bin")])).is_ok());
}

#[test]
fn only_origins_can_be_allowed() {
    let set = |origins: &str| Config::load(env(&[("NETRA__SERVER__ALLOWED_ORIGINS", origins)]));
    assert!(Config::load(env(&[])).unwrap().allowed_origins.is_empty());
    let two = set("https://app.example,http://localhost:5173").unwrap();
    assert_eq!(two.allowed_origins.len(), 2);
    for bad in [
        "*",
        "null",
        "app.example",
        "https://app.example/",
        "https://*.example",
    ] {
        let error = set(bad).unwrap_err().to_string();
        assert!(
            error.contains("server.allowed_origins") && error.contains(bad),
            "{error}"
        );
    }
}

#[test]
fn hs256_needs_a_secret_that_only_the_server_reads() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    let write = |text: &str, mode| {
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let path = file.to_str().unwrap();
    let load = |algorithm: &str, path: &str| {
        let vars = [
            ("NETRA__AUTH__ALGORITHM", algorithm),
            ("NETRA__AUTH__HS256_SECRET_FILE", path),
        ];
        let loaded = Config::load(env(&vars)).map_err(|error| error.to_string());
        loaded.map(|config| config.hs256_secret)
    };
    let secret = "a secret of more than thirty-two bytes";
    write(&format!("{secret}\n"), 0o600);
    let kept = load("HS256", path).unwrap().unwrap();
    assert_eq!(kept.expose(), secret);
    assert!(Config::load(env(&[])).unwrap().hs256_secret.is_none());
    for (algorithm, path, words) in [
        ("HS256", "", "needs a file"),
        ("EdDSA", path, "belongs to"),
        ("HS256", "/nowhere/secret", "No such file"),
        ("RS256", path, "RS256"),
    ] {
        let error = load(algorithm, path).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    write(secret, 0o644);
    assert!(load("HS256", path).unwrap_err().contains("0600"));
    write("too short", 0o600);
    let error = load("HS256", path).unwrap_err();
    assert!(
        error.contains("32 bytes") && !error.contains("too short"),
        "{error}"
    );
}

/// What a number of this key is counted in.
fn unit(path: &str) -> &'static str {
    let name = path.rsplit('.').next().unwrap_or_default();
    match name {
        "requests_per_minute"
        | "key_requests_per_minute"
        | "requests_per_minute_and_address"
        | "logins_per_minute" => "per minute",
        "messages_per_10s" => "per 10 s",
        name if name.ends_with("_ms") => "milliseconds",
        name if name.ends_with("_mib") => "MiB",
        name if name.ends_with("_days") => "days",
        name if name.ends_with("_usd") => "US dollars",
        name if name.ends_with("_tokens") => "tokens",
        name if name.ends_with("_chars") => "characters",
        _ => "",
    }
}

/// The page with every key, as the catalogue and the defaults have it.
fn reference() -> String {
    let settings = Layers::new().settings().unwrap();
    let mut page = String::from(
        "# Every configuration key\n\nMade from the program's own list, and compared with it by a test: not to be \
         edited. [Configuration](configuration.md) explains the layers and more of each key. `*` stands for a name of \
         your choice; for what has one, defaults stand there.\n\n| Key | Default | Unit | In the environment | Meaning |\n\
         |---|---|---|---|---|\n",
    );
    for key in CATALOGUE {
        let setting = settings.iter().find(|setting| setting.key == key.path);
        let default = match setting.map(|setting| &setting.value) {
            None | Some(serde_json::Value::Null) => "unset".to_owned(),
            Some(serde_json::Value::Array(list)) if list.is_empty() => "none".to_owned(),
            Some(serde_json::Value::String(text)) => format!("`{text}`"),
            Some(value) => format!("`{value}`"),
        };
        let variable = format!("NETRA__{}", key.path.to_uppercase().replace('.', "__"));
        let secret = if key.secret { "; secret" } else { "" };
        let meaning = key.meaning.replace('|', "\\|");
        page.push_str(&format!(
            "| `{}` | {default} | {} | `{variable}` | {meaning}{secret} |\n",
            key.path,
            unit(key.path),
        ));
    }
    page
}

#[test]
fn the_page_of_all_keys_is_what_the_program_has() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration-reference.md");
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    let made = reference();
    if made != stored {
        let new = std::env::temp_dir().join("configuration-reference.md");
        std::fs::write(&new, &made).unwrap();
        panic!(
            "a key is another one: cp {} {}",
            new.display(),
            path.display()
        );
    }
}

/// Keys as the page writes them: names of the operator's choice in capitals, and `.x` for one beside another.
fn documented() -> Vec<(String, String)> {
    let page = include_str!("../../../../docs/configuration.md");
    let mut keys = Vec::new();
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = line.trim_matches('|').split(" | ");
        let (names, default) = (cells.next().unwrap(), cells.next().unwrap_or_default());
        let mut first = String::new();
        for name in names.split('`').skip(1).step_by(2) {
            let name = match name.strip_prefix('.') {
                Some(last) => format!("{}.{last}", first.rsplit_once('.').unwrap().0),
                None => name.to_owned(),
            };
            if first.is_empty() {
                first.clone_from(&name);
            }
            let stars = name.split('.').map(|part| match part {
                "NAME" | "HEADER" | "VARIABLE" | "TOOL" => "*",
                part => part,
            });
            keys.push((
                stars.collect::<Vec<_>>().join("."),
                default.trim().to_owned(),
            ));
        }
    }
    keys
}

#[test]
fn the_document_has_every_key_with_its_default() {
    let documented = documented();
    let settings = Layers::new().settings().unwrap();
    let mut problems = Vec::new();
    for key in CATALOGUE {
        let Some((_, told)) = documented.iter().find(|(path, _)| path == key.path) else {
            problems.push(format!("{} is not there", key.path));
            continue;
        };
        let Some(setting) = settings.iter().find(|setting| setting.key == key.path) else {
            continue;
        };
        let told = told.replace([',', '`'], "");
        let default = match &setting.value {
            serde_json::Value::Null => "unset".to_owned(),
            serde_json::Value::Array(list) if list.is_empty() => "none".to_owned(),
            serde_json::Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        let is_told = told == default
            || told.starts_with(&format!("{default} "))
            || told.starts_with(&format!("{default}:"))
            || told.starts_with(&format!("{default};"));
        if !is_told {
            problems.push(format!("{} is {default} and told as {told}", key.path));
        }
    }
    assert!(
        problems.is_empty(),
        "docs/configuration.md:\n{}",
        problems.join("\n")
    );
}

#[test]
fn every_variable_of_the_example_for_compose_is_a_key() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/.env.example");
    let example = std::fs::read_to_string(example).unwrap();
    let lines = example.lines().map(|line| line.trim_start_matches('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    let pairs: Vec<(&str, &str)> = pairs.filter(|(name, _)| !name.contains(' ')).collect();
    let ours = pairs.iter().filter(|(name, _)| name.starts_with("NETRA__"));
    assert!(ours.count() >= 4, "{pairs:?}");
    let config = Config::load(env(&pairs)).unwrap();
    assert_eq!(
        config.public_origin.as_deref(),
        Some("https://netra.example")
    );
    assert!(config.telemetry.is_some());
}
