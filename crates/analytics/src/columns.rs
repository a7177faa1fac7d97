//! The columns that an analysis knows, and the headers under which the known logs write them.

/// A column with a meaning for the analyses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Column {
    Timestamp,
    EndTime,
    Model,
    InputTokens,
    OutputTokens,
    CachedInputTokens,
    TotalTokens,
    LatencySeconds,
    LatencyMillis,
    Cost,
    User,
    Requests,
    CacheHit,
    Session,
    LogType,
    Prompt,
    PromptHash,
    PrefixHash,
}

/// How many columns there are.
pub(crate) const COUNT: usize = 18;

impl Column {
    /// The name in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Timestamp => "timestamp",
            Self::EndTime => "end_time",
            Self::Model => "model",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
            Self::CachedInputTokens => "cached_input_tokens",
            Self::TotalTokens => "total_tokens",
            Self::LatencySeconds => "latency_s",
            Self::LatencyMillis => "latency_ms",
            Self::Cost => "cost",
            Self::User => "user",
            Self::Requests => "requests",
            Self::CacheHit => "cache_hit",
            Self::Session => "session",
            Self::LogType => "log_type",
            Self::Prompt => "prompt",
            Self::PromptHash => "prompt_hash",
            Self::PrefixHash => "prefix_hash",
        }
    }

    /// What the column says, for people.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Timestamp => "when the request started",
            Self::EndTime => "when the response was complete",
            Self::Model => "the model that answered",
            Self::InputTokens => "tokens of the prompt",
            Self::OutputTokens => "tokens that the model wrote",
            Self::CachedInputTokens => "tokens of the prompt that came from the provider's cache",
            Self::TotalTokens => "input and output tokens together",
            Self::LatencySeconds => "time to the complete response, in seconds",
            Self::LatencyMillis => "time to the complete response, in milliseconds",
            Self::Cost => "what the request cost, as logged",
            Self::User => "who asked",
            Self::Requests => "how many requests the row sums up",
            Self::CacheHit => "whether the answer came from a response cache",
            Self::Session => "the conversation of the request",
            Self::LogType => "the kind of request",
            Self::Prompt => "the text of the prompt; only looked at for what repeats",
            Self::PromptHash => "a hash of the whole prompt",
            Self::PrefixHash => "a hash of the beginning that prompts share",
        }
    }

    /// Whether the analyses use it; the others are recognised and left alone.
    pub(crate) fn used(self) -> bool {
        !matches!(self, Self::TotalTokens | Self::Session | Self::LogType)
    }
}

/// Headers by column. Within a column the earlier one wins when a file has several.
const HEADERS: &[(Column, &[&str])] = &[
    (
        Column::Timestamp,
        &[
            "timestamp",
            "start_time",
            "starttime",
            "start_timestamp",
            "starttimeunixnano",
            "start_time_unix_nano",
            "request_time",
            "time",
            "datetime",
            "created_at",
            "created",
            "ts",
            "date",
        ],
    ),
    (
        Column::EndTime,
        &[
            "end_time",
            "endtime",
            "end_timestamp",
            "endtimeunixnano",
            "end_time_unix_nano",
        ],
    ),
    (
        Column::Model,
        &[
            "model",
            "gen_ai.request.model",
            "gen_ai.response.model",
            "model_name",
            "model_id",
        ],
    ),
    (
        Column::InputTokens,
        &[
            "contexttokens",
            "context_tokens",
            "request_tokens",
            "prompt_tokens",
            "input_tokens",
            "gen_ai.usage.input_tokens",
            "gen_ai.usage.prompt_tokens",
        ],
    ),
    (
        Column::OutputTokens,
        &[
            "generatedtokens",
            "generated_tokens",
            "response_tokens",
            "completion_tokens",
            "output_tokens",
            "gen_ai.usage.output_tokens",
            "gen_ai.usage.completion_tokens",
        ],
    ),
    (
        Column::CachedInputTokens,
        &[
            "input_cached_tokens",
            "cached_input_tokens",
            "cached_tokens",
            "gen_ai.usage.cache_read.input_tokens",
        ],
    ),
    (
        Column::TotalTokens,
        &["total_tokens", "gen_ai.usage.total_tokens"],
    ),
    (
        Column::LatencySeconds,
        &[
            "elapsed_time",
            "latency_s",
            "latency_seconds",
            "duration_s",
            "duration_seconds",
        ],
    ),
    (
        Column::LatencyMillis,
        &[
            "latency_ms",
            "duration_ms",
            "elapsed_ms",
            "response_time_ms",
            "request_duration_ms",
        ],
    ),
    (
        Column::Cost,
        &[
            "spend",
            "cost_usd",
            "spend_usd",
            "cost",
            "total_cost",
            "response_cost",
        ],
    ),
    (
        Column::User,
        &[
            "user",
            "user_id",
            "userid",
            "user.id",
            "enduser.id",
            "end_user",
        ],
    ),
    (
        Column::Requests,
        &["num_model_requests", "num_requests", "request_count"],
    ),
    (Column::CacheHit, &["cache_hit"]),
    (
        Column::Session,
        &["session_id", "session", "gen_ai.conversation.id"],
    ),
    (Column::LogType, &["log_type", "gen_ai.operation.name"]),
    (
        Column::Prompt,
        &[
            "prompt",
            "messages",
            "prompt_text",
            "input_text",
            "input_messages",
            "gen_ai.input.messages",
            "gen_ai.prompt",
        ],
    ),
    (
        Column::PromptHash,
        &[
            "prompt_hash",
            "prompt_sha256",
            "prompt_md5",
            "request_hash",
            "input_hash",
        ],
    ),
    (
        Column::PrefixHash,
        &[
            "prefix_hash",
            "prompt_prefix_hash",
            "system_prompt_hash",
            "template_hash",
        ],
    ),
];

/// A header as it is compared: trimmed, lower case, spaces and hyphens as underscores.
pub(crate) fn normalise(header: &str) -> String {
    header
        .trim()
        .chars()
        .map(|c| {
            if c == ' ' || c == '-' {
                '_'
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect()
}

/// The column of a header and its rank among the headers of that column (0 wins).
pub(crate) fn column_of(header: &str) -> Option<(Column, u8)> {
    let wanted = normalise(header);
    HEADERS.iter().find_map(|(column, names)| {
        let rank = names.iter().position(|name| *name == wanted)?;
        Some((*column, u8::try_from(rank).ok()?))
    })
}

/// Whether a header is that of the prompt's text, which may be a list of messages.
pub(crate) fn is_prompt(header: &str) -> bool {
    column_of(header).is_some_and(|(column, _)| column == Column::Prompt)
}

/// Why a header that looks useful was not taken.
pub(crate) fn reason_unmapped(header: &str) -> &'static str {
    match normalise(header).as_str() {
        "latency" | "duration" | "elapsed" | "response_time" => {
            "the header names no unit; rename it to latency_ms or latency_s"
        }
        _ => "not a column that the analyses know",
    }
}

/// One header of a file and what became of it.
#[derive(Debug, Clone)]
pub(crate) struct Mapped {
    pub(crate) header: String,
    pub(crate) column: Option<Column>,
    /// Why there is no column.
    pub(crate) reason: &'static str,
}

/// Maps the headers of a table. A column goes to its best header; the others stay unmapped.
pub(crate) fn map_headers(headers: &[String]) -> Vec<Mapped> {
    let found: Vec<Option<(Column, u8)>> = headers.iter().map(|h| column_of(h)).collect();
    let mut mapped = Vec::with_capacity(headers.len());
    for (index, header) in headers.iter().enumerate() {
        let taken = found[index].filter(|(column, rank)| {
            let better = |other: &Option<(Column, u8)>, earlier: bool| {
                other.is_some_and(|(c, r)| c == *column && (r < *rank || (earlier && r == *rank)))
            };
            !found
                .iter()
                .enumerate()
                .any(|(at, other)| at != index && better(other, at < index))
        });
        let reason = match (found[index], taken) {
            (Some(_), None) => "another header of the file has the same meaning",
            (None, _) => reason_unmapped(header),
            (Some(_), Some(_)) => "",
        };
        mapped.push(Mapped {
            header: header.clone(),
            column: taken.map(|(c, _)| c),
            reason,
        });
    }
    mapped
}

/// Which of the known logs a set of headers is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    AzureLlmInference,
    BurstGpt,
    OpenAiUsage,
    LiteLlmSpend,
    OtelGenAi,
    Other,
}

impl Kind {
    /// Tells the kind by the headers that only this log has.
    pub(crate) fn of<'a>(headers: impl Iterator<Item = &'a str>) -> Self {
        let names: Vec<String> = headers.map(normalise).collect();
        let has = |name: &str| names.iter().any(|n| n == name);
        if names.iter().any(|n| n.starts_with("gen_ai.")) {
            Self::OtelGenAi
        } else if has("contexttokens") && has("generatedtokens") {
            Self::AzureLlmInference
        } else if has("request_tokens") && has("response_tokens") {
            Self::BurstGpt
        } else if has("num_model_requests") {
            Self::OpenAiUsage
        } else if has("spend") && has("starttime") {
            Self::LiteLlmSpend
        } else {
            Self::Other
        }
    }

    /// The name in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AzureLlmInference => "azure_llm_inference",
            Self::BurstGpt => "burstgpt",
            Self::OpenAiUsage => "openai_usage",
            Self::LiteLlmSpend => "litellm_spend",
            Self::OtelGenAi => "otel_genai",
            Self::Other => "other",
        }
    }

    /// The name for people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::AzureLlmInference => "Azure LLM inference trace",
            Self::BurstGpt => "BurstGPT trace",
            Self::OpenAiUsage => "OpenAI usage export",
            Self::LiteLlmSpend => "LiteLLM spend log",
            Self::OtelGenAi => "OpenTelemetry GenAI spans",
            Self::Other => "a log of no known make, read by its headers",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_whatever_their_case_and_the_best_one_wins() {
        assert_eq!(column_of(" ContextTokens "), Some((Column::InputTokens, 0)));
        assert_eq!(
            column_of("Elapsed time").map(|(c, _)| c),
            Some(Column::LatencySeconds)
        );
        let headers: Vec<String> = ["date", "TimeStamp", "timestamp", "latency", "Model"]
            .map(String::from)
            .to_vec();
        let mapped = map_headers(&headers);
        let columns: Vec<Option<Column>> = mapped.iter().map(|m| m.column).collect();
        assert_eq!(
            columns,
            [
                None,
                Some(Column::Timestamp),
                None,
                None,
                Some(Column::Model)
            ]
        );
        assert!(mapped[3].reason.contains("unit"));
    }
}
