"""Data helper: asks for what is missing, concretely: which columns, why, under which header, and how to get them.

It calls no tool and has no numbers of its own: what is missing it knows from the first look at the files.
"""

# For each column: the header to write, what goes into it, and which questions need it.
COLUMNS = {
    "timestamp": ("timestamp", "when the request starts, as RFC 3339 with offset", ["volume", "limits", "anomalies", "growth"]),
    "model": ("model", "the model as the provider names it", ["models", "cost"]),
    "input_tokens": ("prompt_tokens", "the prompt's tokens, from `usage` of the provider's answer", ["cost", "volume"]),
    "output_tokens": ("completion_tokens", "the answer's tokens, from `usage` of the provider's answer", ["cost", "volume"]),
    "cached_input_tokens": ("cached_input_tokens", "the part of the prompt's tokens that came from the provider's cache",
                            ["caching"]),
    "latency": ("latency_ms", "milliseconds from the request to the end of its answer", ["latency"]),
    "cost": ("cost_usd", "what the request was billed, in US dollars", ["cost"]),
    "user": ("user", "who asked: a user, team or key; a pseudonym will do", ["users"]),
    "prompt_hash": ("prompt_hash", "SHA-256 of the whole prompt", ["caching"]),
    "prefix_hash": ("prefix_hash", "SHA-256 of the fixed beginning of the prompt: system text, tools, examples", ["caching"]),
}
ALWAYS = ["timestamp", "model", "input_tokens", "output_tokens"]

# How to get a log from where it is. `has` are the columns that come with it.
SOURCES = {
    "own_code": {
        "title": "Your own code",
        "steps": ["After each call write one JSON object as one line of a file (JSON lines), with the headers asked for here.",
                  "Take tokens from the provider's answer (`usage`), not from an estimate.",
                  "Attach the file as it is."],
        "example": '{"timestamp": "2026-11-26T09:30:00.125Z", "model": "gpt-4o", "prompt_tokens": 1830, "completion_tokens": 212, '
                   '"cached_input_tokens": 1024, "latency_ms": 2140, "user": "team-a", "prefix_hash": "9f86d0…"}',
        "has": list(COLUMNS)},
    "litellm_spend": {
        "title": "LiteLLM proxy, from its database",
        "steps": ["Run the statement below with psql on the proxy's database.", "Attach spend.csv."],
        "example": '\\copy (SELECT "startTime", "endTime", model, prompt_tokens, completion_tokens, spend, "user", cache_hit '
                   'FROM "LiteLLM_SpendLogs") TO \'spend.csv\' WITH CSV HEADER',
        "has": ["timestamp", "model", "input_tokens", "output_tokens", "latency", "cost", "user"]},
    "otel_genai": {
        "title": "OpenTelemetry spans, from a collector",
        "steps": ["Give the collector a `file` exporter (it is in the contrib distribution) in the pipeline of traces.",
                  "Attach the file that it writes; it is read as it is."],
        "example": "exporters:\n  file:\n    path: ./spans.jsonl\nservice:\n  pipelines:\n    traces:\n      exporters: [file]",
        "has": ["timestamp", "model", "input_tokens", "output_tokens", "latency"]},
    "openai_usage": {
        "title": "OpenAI usage export",
        "steps": ["Export the usage of the organisation by model as CSV and attach it.",
                  "Its rows are sums over a time: there is no latency and no single request in it."],
        "example": None,
        "has": ["timestamp", "model", "input_tokens", "output_tokens", "cached_input_tokens"]},
    "parquet": {
        "title": "A table in a data warehouse",
        "steps": ["Export the table with one row for each request as Parquet or CSV, with the headers asked for here.",
                  "Times as timestamps, tokens as whole numbers."],
        "example": None,
        "has": list(COLUMNS)},
}


def lacking(look, topics):
    """The columns that a log lacks and that the question, or any report, needs."""
    gaps = {gap["field"]: gap["reason"] for gap in look.get("missing", [])}
    if "caching" in topics and not look.get("has_prompts"):
        reason = "without texts or hashes of prompts nobody can tell what repeats"
        gaps = {**gaps, "prompt_hash": reason, "prefix_hash": reason}
    needed = []
    for column, reason in gaps.items():
        if column in COLUMNS and (column in ALWAYS or not topics or [t for t in COLUMNS[column][2] if t in topics]):
            needed.append((column, reason))
    return needed


def item(column, reason, file):
    header, meaning, topics = COLUMNS[column]
    return {"file": file, "column": column, "header": header, "meaning": meaning, "why": reason,
            "needed_for": topics, "required": column in ALWAYS}


def exports_for(kind, columns):
    """Where the columns can come from: the source that the log is from first, then those that have the most of them."""
    order = sorted(SOURCES, key=lambda name: (name != kind, -len([c for c in columns if c in SOURCES[name]["has"]])))
    found = []
    for name in order:
        source = SOURCES[name]
        gives = [c for c in columns if c in source["has"]]
        if gives:
            found.append({"source": name, "title": source["title"], "gives": gives, "steps": source["steps"],
                          "example": source["example"]})
    return found[:3]


def clean(text):
    return "".join(c if c >= " " else " " for c in str(text)).replace("`", "'").replace("<", "&lt;")


def instructions(items, exports):
    """What to do, as a text."""
    if not items:
        return "Nothing more is needed for what was asked."
    lines = []
    for file in sorted({one["file"] or "" for one in items}):
        of_file = [one for one in items if (one["file"] or "") == file]
        lines += [f"**{'Add to ' + clean(file) if file else 'Bring a log'}:**", ""]
        for one in of_file:
            must = " (needed for any report)" if one["required"] else ""
            lines.append(f"- `{one['header']}`: {one['meaning']}{must}. Why: {clean(one['why'])}.")
        lines.append("")
    for source in exports:
        lines += [f"**{source['title']}** gives: {', '.join(c.replace('_', ' ') for c in source['gives'])}", ""]
        lines += [f"{number}. {step}" for number, step in enumerate(source["steps"], 1)]
        if source["example"]:
            lines += ["", "```text", source["example"], "```"]
        lines.append("")
    return "\n".join(lines).strip()


def data_helper():
    triage = input.get("triage") or {}
    topics = (triage.get("wanted") or {}).get("topics", [])
    items, kind = [], None
    looks = [look for look in triage.get("files", []) if look["usable"]]
    for look in looks:
        kind = kind or look.get("kind")
        items += [item(column, reason, look["name"]) for column, reason in lacking(look, topics)]
    if not looks:
        asked = [c for c in COLUMNS if c in ALWAYS or [t for t in COLUMNS[c][2] if t in topics]]
        items = [item(column, "there is no log that could be read", None) for column in asked]
    columns = []
    for one in items:
        if one["column"] not in columns:
            columns.append(one["column"])
    exports = exports_for(kind, columns)
    think(f"Columns that would tell more: {len(items)}." if items else "No column is missing for what was asked.")
    return {"user_instructions": instructions(items, exports), "structured_items": items, "exports": exports}


data_helper()
