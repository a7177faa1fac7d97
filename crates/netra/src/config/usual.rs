//! Model providers that the usual variables of the environment make by themselves, where the
//! configuration has none.

/// One key of the configuration, and the variable that it comes from.
pub(super) struct Found {
    /// The variable's name.
    pub(super) variable: &'static str,
    /// The key, with dots.
    pub(super) key: String,
    /// Its value.
    pub(super) value: String,
}

/// Variables that hold a key, the provider and the kind that they stand for. Of two for the same
/// provider the first one counts.
const KEYS: [(&str, &str); 4] = [
    ("OPENAI_API_KEY", "openai"),
    ("ANTHROPIC_API_KEY", "anthropic"),
    ("GEMINI_API_KEY", "gemini"),
    ("GOOGLE_API_KEY", "gemini"),
];

/// The keys that these variables stand for.
pub(super) fn providers(variables: &[(String, String)]) -> Vec<Found> {
    let value = |name: &str| {
        let value = variables.iter().find(|(known, _)| known == name);
        let value = value.map(|(_, value)| value.trim())?;
        (!value.is_empty()).then(|| value.to_owned())
    };
    let mut found: Vec<Found> = Vec::new();
    for (variable, kind) in KEYS {
        let Some(secret) = value(variable) else {
            continue;
        };
        if found.iter().any(|known| known.value == kind) {
            continue;
        }
        found.extend(provider(variable, kind, "api_key", secret));
    }
    if let Some(host) = value("OLLAMA_HOST") {
        found.extend(provider(
            "OLLAMA_HOST",
            "ollama",
            "base_url",
            address(&host),
        ));
    }
    found
}

fn provider(variable: &'static str, kind: &str, key: &str, value: String) -> [Found; 2] {
    let of = |key: &str, value: String| Found {
        variable,
        key: format!("models.providers.{kind}.{key}"),
        value,
    };
    [of("kind", kind.to_owned()), of(key, value)]
}

/// Ollama's address, which may lack its scheme and its port, or be the one that it listens on.
fn address(host: &str) -> String {
    let (scheme, rest) = host.split_once("://").unwrap_or(("http", host));
    let rest = rest
        .trim_end_matches('/')
        .replacen("0.0.0.0", "127.0.0.1", 1);
    let has_port = rest.rsplit_once(':').is_some_and(|(_, port)| {
        !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
    });
    let port = if has_port || scheme == "https" {
        ""
    } else {
        ":11434"
    };
    let rest = rest.trim_end_matches(':');
    let rest = if rest.is_empty() { "127.0.0.1" } else { rest };
    format!("{scheme}://{rest}{port}/v1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_variable_makes_its_provider_and_an_empty_one_makes_none() {
        let variables = [
            ("OPENAI_API_KEY", " sk-1 "),
            ("ANTHROPIC_API_KEY", ""),
            ("GEMINI_API_KEY", "g-1"),
            ("GOOGLE_API_KEY", "g-2"),
            ("OLLAMA_HOST", "0.0.0.0"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let found: Vec<_> = providers(&variables)
            .into_iter()
            .map(|found| format!("{} = {} ({})", found.key, found.value, found.variable))
            .collect();
        assert_eq!(
            found,
            [
                "models.providers.openai.kind = openai (OPENAI_API_KEY)",
                "models.providers.openai.api_key = sk-1 (OPENAI_API_KEY)",
                "models.providers.gemini.kind = gemini (GEMINI_API_KEY)",
                "models.providers.gemini.api_key = g-1 (GEMINI_API_KEY)",
                "models.providers.ollama.kind = ollama (OLLAMA_HOST)",
                "models.providers.ollama.base_url = http://127.0.0.1:11434/v1 (OLLAMA_HOST)",
            ]
        );
    }

    #[test]
    fn addresses_of_ollama_in_every_form() {
        for (host, expected) in [
            ("localhost", "http://localhost:11434/v1"),
            ("10.0.0.7:9000", "http://10.0.0.7:9000/v1"),
            (":8000", "http://:8000/v1"),
            ("https://models.example/", "https://models.example/v1"),
            ("http://h:1/", "http://h:1/v1"),
        ] {
            assert_eq!(address(host), expected);
        }
    }
}
