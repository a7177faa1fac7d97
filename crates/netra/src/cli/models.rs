//! `netra models`: which models are configured, and whether one answers.

use std::collections::BTreeSet;

use clap::Subcommand;
use netra_context::{BackgroundKind, Runtime, UserExecutionContext};
use netra_model::{Finding, ModelRef, Trial};
use netra_protocol::model::Model;

use super::{Folder, output};
use crate::exit::{Exit, Problem};
use crate::node;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the models that are configured, whether each is ready, and what it costs.
    #[command(
        after_help = "Asks no provider. `provider/*` stands for every name that the provider has.\n\n\
        Examples:\n  netra models list\n  netra models list --config netra.toml --json"
    )]
    List {
        #[command(flatten)]
        folder: Folder,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make two small calls of one model, and say what works: text, streaming, tools.
    #[command(
        after_help = "The calls cost what such calls cost. No server need run. Ends with 1 when the model \
        gives no text.\n\nExamples:\n  netra models test openai/gpt-5-mini\n  \
        netra models test --config netra.toml --json"
    )]
    Test {
        /// As provider/model [default: models.default].
        model: Option<String>,
        #[command(flatten)]
        folder: Folder,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn models(args: Args) -> Result<Exit, Problem> {
    match args.command {
        Command::List { folder, json } => list(&folder, json),
        Command::Test {
            model,
            folder,
            json,
        } => test(model.as_deref(), &folder, json).await,
    }
}

fn list(folder: &Folder, json: bool) -> Result<Exit, Problem> {
    let models = node::models(&folder.load()?)?.list();
    if json {
        output::json(&models)?;
        return Ok(Exit::Success);
    }
    if models.is_empty() {
        output::note(
            "no model provider is configured: set models.providers.NAME, or OPENAI_API_KEY, \
             ANTHROPIC_API_KEY, GEMINI_API_KEY or OLLAMA_HOST in the environment",
        );
    }
    let head = [
        "NAME",
        "KIND",
        "READY",
        "SCHEMA",
        "IMAGES",
        "USD PER MILLION",
        "",
    ];
    let head = head.map(str::to_owned).to_vec();
    let rows: Vec<_> = std::iter::once(head)
        .chain(models.iter().map(row))
        .collect();
    output::line(output::table(&rows))?;
    let sources = models
        .iter()
        .filter_map(|model| model.price.as_ref()?.source.as_deref());
    for source in sources.collect::<BTreeSet<_>>() {
        output::line(format!("prices: {source}"))?;
    }
    Ok(Exit::Success)
}

fn row(model: &Model) -> Vec<String> {
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let price = model.price.as_ref();
    let note = match (&model.problem, model.default) {
        (Some(problem), _) => problem.clone(),
        (None, true) => "the default".to_owned(),
        (None, false) => String::new(),
    };
    vec![
        model.name.clone(),
        model.kind.clone(),
        yes(model.problem.is_none()),
        yes(model.native_schema),
        yes(model.images),
        price.map_or_else(
            || "unknown".to_owned(),
            |price| format!("{} in, {} out", price.input, price.output),
        ),
        note,
    ]
}

async fn test(name: Option<&str>, folder: &Folder, json: bool) -> Result<Exit, Problem> {
    let models = node::models(&folder.load()?)?;
    let usage = |error: netra_model::Error| Problem::message(Exit::Usage, error.to_string());
    let model = models.resolve(name).map_err(usage)?;
    models.is_ready(&model).map_err(usage)?;
    let runtime = Runtime::new();
    let ctx = UserExecutionContext::for_background(&runtime, BackgroundKind::Console);
    let failed = |error: netra_model::Error| {
        Problem::message(Exit::Failure, format!("{model} does not answer: {error}"))
    };
    let trial = models.try_out(&ctx, &model).await.map_err(failed)?;
    if json {
        output::json(&trial)?;
    } else {
        tell(&model, &trial)?;
    }
    Ok(if trial.text.works {
        Exit::Success
    } else {
        Exit::Failure
    })
}

fn tell(model: &ModelRef, trial: &Trial) -> Result<(), Problem> {
    let row = |name: &str, finding: &Finding| {
        let works = if finding.works {
            "works"
        } else {
            "does not work"
        };
        vec![name.to_owned(), works.to_owned(), finding.words.clone()]
    };
    output::line(model.to_string())?;
    output::line(output::table(&[
        row("text", &trial.text),
        row("streaming", &trial.streaming),
        row("tools", &trial.tools),
    ]))?;
    if let Some(ms) = trial.first_chunk_ms {
        output::line(format!("first piece after {ms} ms"))?;
    }
    let input: u64 = trial.usage.iter().map(|usage| usage.input_tokens).sum();
    let written: u64 = trial.usage.iter().map(|usage| usage.output_tokens).sum();
    let cost = trial.usage.iter().map(|usage| usage.cost_usd);
    let cost = cost
        .sum::<Option<f64>>()
        .filter(|_| !trial.usage.is_empty());
    let cost = cost.map_or_else(
        || "price unknown".to_owned(),
        |cost| format!("{cost:.6} USD"),
    );
    output::line(format!("{input} tokens in, {written} out, {cost}"))?;
    Ok(())
}
