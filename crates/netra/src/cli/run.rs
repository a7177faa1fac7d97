//! `netra run`: one run of an agent, live, with its report at the end.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use netra_client::{Client, EventStream, Upload};
use netra_context::duration;
use netra_protocol::id::{RunId, ThreadId};
use netra_protocol::run::{Run, RunStatus, StartRun};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::connection::{Connection, Source};
use super::output;
use super::screen::Screen;
use super::tree::Tree;
use crate::exit::{Exit, Problem};

/// Between two turns of the spinner.
const TICK: Duration = Duration::from_millis(120);
/// The longest question that is read from standard input, in bytes.
const LONGEST_QUESTION: u64 = 1 << 20;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without --server it goes to the server that holds the data folder, or \
    starts a private one for this run.\nThe report goes to standard output, what happens \
    meanwhile to standard error. Ctrl-C cancels the run.\n\n\
    Examples:\n  netra run echo \"hello\"\n  \
    netra run optimizer --file usage.csv --out ./report \"Cut the cost by 30 %\"\n  \
    netra run assistant --server https://netra.example --token \"$TOKEN\" --json \"hello\"\n  \
    cat question.txt | netra run assistant -"
)]
pub(super) struct Args {
    /// The agent's name; `netra agents list` shows which there are.
    agent: String,
    /// The question; `-` reads it from standard input.
    #[arg(required_unless_present = "input")]
    question: Option<String>,
    /// Input as a JSON object, for agents that want more than a text.
    #[arg(long, value_name = "JSON", conflicts_with = "question")]
    input: Option<String>,
    /// A file for the run; can be given several times.
    #[arg(long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    source: Source,
    /// Folder of agents besides the built-in ones, for a private server.
    #[arg(long, value_name = "DIR")]
    agents: Option<PathBuf>,
    /// Whose run it is; made on first use.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "local",
        conflicts_with = "server"
    )]
    user: String,
    /// Go on in this conversation.
    #[arg(long, value_name = "ID")]
    thread: Option<ThreadId>,
    /// End the run after this time, such as 90s or 10m.
    #[arg(long, value_parser = duration::parse)]
    timeout: Option<Duration>,
    /// Save the files that the run makes in this folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the run's events, one JSON object per line, in place of the report.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> Result<Exit, Problem> {
    let start = args.start()?;
    let connection = args.connect().await?;
    let ended = follow_one(&args, &connection, start).await;
    connection.close().await;
    ended
}

impl Args {
    fn start(&self) -> Result<StartRun, Problem> {
        Ok(StartRun {
            agent: self.agent.clone(),
            input: self.input()?,
            files: Vec::new(),
            metadata: None,
            timeout_ms: self.timeout.map(|timeout| timeout.as_millis() as u64),
            on_limit: netra_protocol::run::OnLimit::default(),
            on_busy: netra_protocol::run::OnBusy::default(),
        })
    }

    fn input(&self) -> Result<Value, Problem> {
        if let Some(input) = &self.input {
            let value: Value = serde_json::from_str(input)
                .map_err(|error| Problem::message(Exit::Usage, format!("--input: {error}")))?;
            return match value {
                Value::Object(_) => Ok(value),
                _ => Err(Problem::message(
                    Exit::Usage,
                    "--input must be a JSON object",
                )),
            };
        }
        match self.question.as_deref() {
            Some("-") => {
                let mut text = String::new();
                std::io::stdin()
                    .lock()
                    .take(LONGEST_QUESTION)
                    .read_to_string(&mut text)?;
                Ok(text.trim_end().into())
            }
            question => Ok(question.unwrap_or_default().into()),
        }
    }

    async fn connect(&self) -> Result<Connection, Problem> {
        if let Some(client) = self.source.named()? {
            return Ok(Connection::to(client));
        }
        let config = self.source.config_with(|layers| match &self.agents {
            Some(agents) => layers.flag("agents.dir", "agents", agents.display().to_string()),
            None => layers,
        })?;
        Connection::by_folder(config, &self.user).await
    }
}

async fn follow_one(
    args: &Args,
    connection: &Connection,
    mut start: StartRun,
) -> Result<Exit, Problem> {
    let client = &connection.client;
    for path in &args.files {
        start.files.push(upload(client, path).await?.id);
    }
    let run = client.run_start(args.thread, &start, None).await?;
    let mut live = Live::new(client.clone(), run.id, args.json);
    live.follow().await?;
    let run = client.run(run.id).await?;
    if !args.json {
        report(&run, &live.tree)?;
    }
    artifacts(args, connection, &live.tree).await?;
    Ok(end(&run))
}

async fn upload(client: &Client, path: &Path) -> Result<netra_protocol::file::File, Problem> {
    let name = path
        .file_name()
        .map_or_else(|| "file".into(), |name| name.to_string_lossy());
    client
        .file_upload(&name, Upload::Path(path))
        .await
        .map_err(Problem::from)
        .map_err(|problem| Problem {
            error: problem
                .error
                .context(format!("{} was not taken", path.display())),
            ..problem
        })
}

/// What is shown while the run goes on.
struct Live {
    client: Client,
    run: RunId,
    events: EventStream,
    tree: Tree,
    screen: Option<Screen>,
    json: bool,
    tick: usize,
    cancels: u32,
}

impl Live {
    fn new(client: Client, run: RunId, json: bool) -> Self {
        let events = client.run_events(run);
        let screen = (!json && output::is_drawable()).then(Screen::default);
        Self {
            client,
            run,
            events,
            tree: Tree::default(),
            screen,
            json,
            tick: 0,
            cancels: 0,
        }
    }

    /// Until the run's last event.
    async fn follow(&mut self) -> Result<(), Problem> {
        let mut ticks = tokio::time::interval(TICK);
        // One listener for the whole time: a signal that comes between two turns counts too.
        let mut interrupts = signal(SignalKind::interrupt())?;
        loop {
            tokio::select! {
                event = self.events.next() => match event? {
                    None => break,
                    Some(received) if self.json => output::line(received.text)?,
                    Some(received) => self.show(&received.event.event),
                },
                _ = ticks.tick(), if self.screen.is_some() => {
                    self.tick += 1;
                    self.draw();
                }
                _ = interrupts.recv() => self.cancel().await?,
            }
        }
        self.draw();
        Ok(())
    }

    fn show(&mut self, event: &netra_protocol::Event) {
        let line = self.tree.fold(event);
        match (&self.screen, line) {
            (Some(_), _) => self.draw(),
            (None, Some(line)) => output::note(line),
            (None, None) => {}
        }
    }

    fn draw(&mut self) {
        if let Some(screen) = &mut self.screen {
            let (width, height) = Screen::size();
            let now = netra_context::Runtime::new().now();
            let lines = self
                .tree
                .lines(now, self.tick, width, height.saturating_sub(1));
            screen.draw(&lines);
        }
    }

    async fn cancel(&mut self) -> Result<(), Problem> {
        self.cancels += 1;
        if self.cancels > 1 {
            return Err(Problem::message(
                Exit::RunCancelled,
                format!("not waiting for the end of {}", self.run),
            ));
        }
        match self.client.run_cancel(self.run).await {
            // It ended by itself in this moment: its last event is on the way.
            Err(error) if error.code() == Some(netra_protocol::ErrorCode::RunEnded) => Ok(()),
            other => Ok(other?),
        }
    }
}

fn end(run: &Run) -> Exit {
    match run.status {
        RunStatus::Completed => Exit::Success,
        RunStatus::Cancelled => Exit::RunCancelled,
        RunStatus::TimedOut => Exit::RunTimedOut,
        RunStatus::Failed | RunStatus::Queued | RunStatus::Running | RunStatus::Waiting => {
            Exit::RunFailed
        }
    }
}

/// The report on standard output, or what went wrong on standard error.
fn report(run: &Run, tree: &Tree) -> Result<(), Problem> {
    if let Some(error) = &run.error {
        output::note(format!(
            "{} {}: {}",
            run.status.as_str(),
            error.code,
            error.message
        ));
        return Ok(());
    }
    Ok(output::line(report_text(
        run.result.as_ref(),
        tree.last_message.as_deref(),
    ))?)
}

fn report_text(result: Option<&Value>, message: Option<&str>) -> String {
    let field = |name: &str| {
        result
            .and_then(|result| result.get(name))
            .and_then(Value::as_str)
    };
    let whole = || match result {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Null) | None => None,
        Some(other) => serde_json::to_string_pretty(other).ok(),
    };
    field("report_markdown")
        .or_else(|| field("text"))
        .or(message)
        .map(|text| text.trim_end().to_owned())
        .or_else(whole)
        .unwrap_or_default()
}

/// Saves the run's files, or says how to get them.
async fn artifacts(args: &Args, connection: &Connection, tree: &Tree) -> Result<(), Problem> {
    let files = match args.json {
        // Without a tree the events were only passed on.
        true => Vec::new(),
        false => tree.artifacts.clone(),
    };
    let Some(out) = &args.out else {
        for file in &files {
            output::note(format!(
                "file {} ({} bytes), {}",
                file.name, file.bytes, file.id
            ));
        }
        if !files.is_empty() {
            output::note(match connection.is_private() {
                true => {
                    "--out DIR saves them; `netra serve` on the same folder has them too".into()
                }
                false => format!(
                    "--out DIR saves them, or GET {}/api/files/ID/content",
                    connection.client.base()
                ),
            });
        }
        return Ok(());
    };
    std::fs::create_dir_all(out)?;
    for file in &files {
        let content = connection.client.file_content(file.id).await?;
        let path = out.join(safe_name(&file.name));
        std::fs::write(&path, &content)?;
        output::note(format!("saved {}", path.display()));
    }
    Ok(())
}

/// The last part of a name, so that no file lands outside of the folder.
fn safe_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let clean: String = last.chars().filter(|c| !c.is_control()).collect();
    match clean.trim_start_matches('.') {
        "" => "file".to_owned(),
        visible => visible.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_report_is_the_first_of_what_there_is() {
        let result = json!({"report_markdown": "# R\n", "text": "t"});
        assert_eq!(report_text(Some(&result), Some("m")), "# R");
        assert_eq!(report_text(Some(&json!({"text": "t"})), Some("m")), "t");
        assert_eq!(report_text(Some(&json!({"n": 1})), Some("m")), "m");
        assert_eq!(
            report_text(Some(&json!({"n": 1})), None),
            "{\n  \"n\": 1\n}"
        );
        assert_eq!(report_text(None, None), "");
    }

    #[test]
    fn no_artifact_is_saved_outside_of_the_folder() {
        assert_eq!(safe_name("../../etc/passwd"), "passwd");
        assert_eq!(safe_name("/abs/chart.svg"), "chart.svg");
        assert_eq!(safe_name(".."), "file");
        assert_eq!(safe_name(".bashrc"), "bashrc");
        assert_eq!(safe_name("a\nb.svg"), "ab.svg");
    }
}
