//! The one recorder of the process, and what it has recorded as text and as JSON.

use std::sync::OnceLock;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use netra_memory::Scope;
use serde_json::{Map, Value, json};

/// The `metrics` crate knows one recorder per process, so its handle is one per process too.
static HANDLE: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();

/// Bounds of histograms in seconds, from a fast answer to a long run.
const SECONDS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0,
];

/// Bounds of the one histogram that counts tokens, as OpenTelemetry's conventions want them.
const TOKENS_OF_A_CALL: (&str, [f64; 14]) = (
    "gen_ai_client_token_usage",
    [
        1.0,
        4.0,
        16.0,
        64.0,
        256.0,
        1_024.0,
        4_096.0,
        16_384.0,
        65_536.0,
        262_144.0,
        1_048_576.0,
        4_194_304.0,
        16_777_216.0,
        67_108_864.0,
    ],
);

/// What each metric means, in the tables of the documents: the one place where that is written.
const DESCRIPTIONS: &str = include_str!("../../../docs/monitoring.md");

/// What has been recorded. Cheap to clone.
#[derive(Clone)]
pub struct Recorded(PrometheusHandle);

/// Installs the recorder where that has not happened, and gives the handle to it. Servers that
/// start at once in one process wait here for the first of them: a handle that is not the handle
/// of what is installed would show nothing for ever.
pub fn install() -> anyhow::Result<Recorded> {
    let installed = HANDLE.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    installed.clone().map(Recorded).map_err(anyhow::Error::msg)
}

fn build() -> anyhow::Result<PrometheusHandle> {
    let recorder = PrometheusBuilder::new()
        .set_buckets(&SECONDS)?
        .set_buckets_for_metric(
            Matcher::Full(TOKENS_OF_A_CALL.0.into()),
            &TOKENS_OF_A_CALL.1,
        )?
        .build_recorder();
    describe(&recorder);
    let handle = recorder.handle();
    metrics::set_global_recorder(OfTheSystem(recorder)).map_err(|_| {
        anyhow::anyhow!("this process has a recorder of metrics that is not Netra's")
    })?;
    Ok(handle)
}

/// Gives each metric the meaning that the documents have, as its help text.
fn describe(recorder: &impl Recorder) {
    for row in DESCRIPTIONS
        .lines()
        .filter(|row| row.starts_with("| `netra_") || row.starts_with("| `gen_ai_"))
    {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, names, kind, _, meaning, _] = cells[..] else {
            continue;
        };
        let meaning = without_marks(meaning);
        for name in names.split('`').skip(1).step_by(2) {
            let (name, meaning) = (KeyName::from(name.to_owned()), meaning.clone().into());
            match kind.split(',').next() {
                Some("counter") => recorder.describe_counter(name, None, meaning),
                Some("gauge") => recorder.describe_gauge(name, None, meaning),
                _ => recorder.describe_histogram(name, None, meaning),
            }
        }
    }
}

/// Markdown as plain text: without the marks of code, and of a link its words.
fn without_marks(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[') {
        let (words, after) = link.split_once("](").unwrap_or((link, ""));
        plain.push_str(before);
        plain.push_str(words);
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    plain.replace('`', "")
}

/// What is registered belongs to nobody's account, whoever happens to be the first to count it.
struct OfTheSystem(PrometheusRecorder);

impl Recorder for OfTheSystem {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.0.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.0.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.0.describe_histogram(key, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        let _system = Scope::system().enter();
        self.0.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        let _system = Scope::system().enter();
        self.0.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        let _system = Scope::system().enter();
        self.0.register_histogram(key, metadata)
    }
}

impl Recorded {
    /// Prometheus text, or the same as JSON.
    pub fn render(&self, as_json: bool) -> String {
        let text = self.0.render();
        if as_json {
            to_json(&text).to_string()
        } else {
            text
        }
    }

    /// The metrics as JSON.
    pub(crate) fn families(&self) -> Value {
        to_json(&self.0.render())
    }

    /// Folds what histograms have collected; to be called now and then, or they grow.
    pub fn fold(&self) {
        self.0.run_upkeep();
    }
}

/// `{name: {type, help?, samples: [{labels, value}]}}`.
fn to_json(text: &str) -> Value {
    let mut families: Map<String, Value> = Map::new();
    let mut current = String::new();
    for line in text.lines() {
        let family = |families: &mut Map<String, Value>, name: &str, key: &str, value: &str| {
            let entry = families
                .entry(name)
                .or_insert_with(|| json!({"samples": []}));
            entry[key] = value.into();
        };
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            if let Some((name, kind)) = rest.split_once(' ') {
                family(&mut families, name, "type", kind);
                name.clone_into(&mut current);
            }
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            if let Some((name, help)) = rest.split_once(' ') {
                family(&mut families, name, "help", help);
            }
        } else if let Some(sample) = sample(line)
            && let Some(samples) = families
                .get_mut(&current)
                .and_then(|family| family["samples"].as_array_mut())
        {
            samples.push(sample);
        }
    }
    Value::Object(families)
}

/// `name{a="b"} 1` as `{name, labels, value}`.
fn sample(line: &str) -> Option<Value> {
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (head, value) = line.rsplit_once(' ')?;
    let (name, labels) = match head.split_once('{') {
        Some((name, labels)) => (name, read_labels(labels.strip_suffix('}')?)?),
        None => (head, Map::new()),
    };
    // JSON has no infinity: what is no number stays text.
    let value = value
        .parse::<f64>()
        .ok()
        .and_then(serde_json::Number::from_f64)
        .map_or_else(|| Value::from(value), Value::Number);
    Some(json!({"name": name, "labels": labels, "value": value}))
}

fn read_labels(text: &str) -> Option<Map<String, Value>> {
    let mut labels = Map::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next()? {
                (place, '"') => break place + 1,
                (_, '\\') => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.to_owned(), value.into());
        rest = after[end..].trim_start_matches(',');
    }
    Some(labels)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn servers_that_start_at_once_all_show_what_is_counted() {
        let together = Barrier::new(8);
        let all: Vec<Recorded> = std::thread::scope(|scope| {
            let start = || {
                together.wait();
                install().unwrap()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|it| it.join().unwrap()).collect()
        });
        metrics::counter!("netra_test_total").increment(2);
        for recorded in all {
            assert!(recorded.render(false).contains("netra_test_total 2"));
            let json: Value = serde_json::from_str(&recorded.render(true)).unwrap();
            assert_eq!(json["netra_test_total"]["samples"][0]["value"], 2.0);
        }
    }

    #[test]
    fn text_becomes_json_with_its_labels() {
        let text = "# HELP runs Runs.\n# TYPE runs counter\nruns{agent=\"a\\\"b,c\",end=\"ok\"} 3\n\n\
                    # TYPE wait histogram\nwait_bucket{le=\"+Inf\"} 2\nwait_sum 0.5\n";
        assert_eq!(
            to_json(text),
            json!({
                "runs": {"help": "Runs.", "type": "counter", "samples": [
                    {"name": "runs", "labels": {"agent": "a\"b,c", "end": "ok"}, "value": 3.0}]},
                "wait": {"type": "histogram", "samples": [
                    {"name": "wait_bucket", "labels": {"le": "+Inf"}, "value": 2.0},
                    {"name": "wait_sum", "labels": {}, "value": 0.5}]},
            })
        );
    }

    #[test]
    fn help_is_what_the_documents_say_in_plain_words() {
        let plain = without_marks("the limit `x` ([limits](a.md#b)), see [more](c.md).");
        assert_eq!(plain, "the limit x (limits), see more.");
        let recorder = PrometheusBuilder::new().build_recorder();
        describe(&recorder);
        let gauge = Key::from_name("netra_runs_waiting");
        let metadata = Metadata::new("test", metrics::Level::INFO, None);
        recorder.register_gauge(&gauge, &metadata).set(1.0);
        let text = recorder.handle().render();
        let help =
            "# HELP netra_runs_waiting runs that wait for a slot; runs that wait for a person\n";
        assert!(text.contains(help), "{text}");
    }
}
