"""Triage: what is asked, which data is there, and is it enough?

The question is read by the words below, in English and German, and by nothing else: add words to teach it more.
"""

import re

MAX_FILES = 4  # A run has 50 steps by default, and each log takes about ten.

# Which steps follow, by how much the data tells. Triage went before them, and reporting always comes last.
WORKFLOWS = {
    "sufficient": ["data", "analysis", "optimization", "actions"],
    "partial": ["data_helper", "data", "analysis", "optimization", "actions"],
    "insufficient": ["data_helper", "data", "analysis"],
}

# Beginnings of words; those of up to three letters stand for the whole word.
TOPICS = {
    "cost": "cost cheap spend spent price pricing bill budget save saving money expens invoice "
    "kosten günstig billig teuer spar einspar preis ausgab rechnung budget geld",
    "latency": "latenc slow fast quick speed wait p95 p99 langsam schnell latenz antwortzeit wartezeit dauer",
    "volume": "traffic volume peak load throughput rate spitze auslastung durchsatz anfragen requests",
    "users": "user customer team who nutzer benutzer kunde wer",
    "models": "model modell",
    "caching": "cach repeat repetit wiederhol",
    "limits": "limit throttl quota 429 rpm tpm drossel",
    "anomalies": "anomal unusual spike outlier odd ungewöhnlich ausreißer auffällig",
    "growth": "grow forecast predict future next trend season double triple wachs prognos vorhersag künftig nächste verdopp",
}
NOT = r"\b(?:without|no|not|never|don't|ohne|nicht|keine?)\b[^.;!?]{0,40}?"
CONDITIONS = {
    "no_slower": NOT + r"\b(?:slow\w*|latenc\w*|wait\w*|delay\w*|langsam\w*|latenz\w*|verzöger\w*)"
    r"|\b(?:same|gleiche[rn]?|keep\w*|hold|halte\w*)\b[^.;!?]{0,30}?\b(?:speed|latenc\w*|latenz\w*|tempo)",
    "no_worse": NOT + r"\b(?:quality|worse|accura\w*|qualität\w*|schlechter\w*)"
    r"|\b(?:same|gleiche[rn]?|keep\w*|hold|halte\w*)\b[^.;!?]{0,30}?\b(?:quality|accuracy|qualität)",
}
# For each topic: the question that the log must answer, in words for the report, and what to bring when it cannot.
NEEDS = {
    "cost": ("cost_as_logged", "what was really billed",
             "Log the billed cost of each request, or bring the provider's usage export."),
    "latency": ("latency", "how fast answers are, and whether a change makes them slower",
                "Log when each request starts and when its answer ends, or its duration in milliseconds."),
    "volume": ("volume_over_time", "how many requests come when", "Log the time of each request."),
    "users": ("use_by_user", "who uses how much", "Log a user, team or key with each request (a pseudonym will do)."),
    "models": ("cost_by_model", "which model costs how much", "Log the model of each request."),
    "caching": ("cache_use", "how much is read from a prompt cache",
                "Log how many input tokens the provider read from its prompt cache."),
    "limits": ("rate_limits", "how the peaks stand against rate limits", "Log the time of each request."),
    "anomalies": ("anomalies", "what is unusual", "Log the time of each request."),
    "growth": ("forecast", "what is to come", "Log the time of each request."),
}
BRING = (
    "Bring a log of LLM requests as CSV or JSON lines (UTF-8) with one row for each request: a time, the input tokens "
    "and the output tokens; better with model, latency, cost and user too. Headers such as timestamp, model, "
    "prompt_tokens, completion_tokens, latency_ms, spend and user are known, and exports of OpenAI, LiteLLM and "
    "OpenTelemetry GenAI spans are read as they are. Parquet files with such columns are read too."
)

# What nobody on this team measures, by the topics that ask for it together.
NOT_MEASURED = {
    ("users", "cost"): "what each user costs in money (use by user is given in requests and tokens)",
    ("users", "latency"): "how long each user waits (latency is given for all requests together)",
    ("models", "latency"): "how fast each model is (latency is given for all requests together)",
}

missing = []
sources = []


def inspect(file):
    """Calls log_inspect and notes the call as a source."""
    ref = f"log_inspect#{len(sources) + 1}"
    source = {"ref": ref, "tool": "log_inspect", "agent": "optimizer-triage", "arguments": {"file": file}}
    sources.append(source)
    try:
        result = log_inspect(file=file)
    except Exception as error:
        source["error"] = str(error)
        raise
    source["call"] = result.get("_call")
    return result, ref


def topics_in(text):
    words = re.findall(r"\w+", text)
    found = []
    for topic, stems in TOPICS.items():
        for stem in stems.split():
            if any(word == stem if len(stem) <= 3 else word.startswith(stem) for word in words):
                found.append(topic)
                break
    return found


def percentage_in(text):
    """The first percentage as the part to be saved, with the words it was read from."""
    half = re.search(r"\b(?:halve|by half|in half|halbier\w*|um die hälfte)\b", text)
    if half:
        return 0.5, half.group(0)
    match = re.search(r"(\d+(?:[.,]\d+)?)\s*(?:%|percent|per cent|prozent)", text)
    if not match:
        return None, None
    number = float(match.group(1).replace(",", ".")) / 100
    before = text[: match.start()].split()[-2:]
    downto = before[-1:] in (["to"], ["auf"]) and before[0] != "up"
    saving = 1 - number if downto else number
    linked = before[-1:] in (["by"], ["to"], ["um"], ["auf"])
    words = f"{before[-1]} {match.group(0)}" if linked else match.group(0)
    return (round(saving, 6), words) if 0 < saving <= 1 else (None, words)


def growth_in(text):
    """How much more traffic the question speaks of, as a factor, and the text without these words."""
    more = re.search(r"(\d+(?:[.,]\d+)?)\s*(?:%|percent|per cent|prozent)\s+(?:more|mehr|growth|wachstum)", text)
    twice = re.search(r"\b(?:doubl\w*|twice|verdopp\w*)\b[^.;!?]{0,30}?\b(?:user|traffic|request|nutzer|anfrage|last)", text)
    if more:
        return round(1 + float(more.group(1).replace(",", ".")) / 100, 6), text.replace(more.group(0), " ")
    return (2, text.replace(twice.group(0), " ")) if twice else (None, text)


def read_question(text):
    """What is wanted, as far as the words tell."""
    lower = text.lower()
    rest = lower
    wanted = {"conditions": []}
    for condition, pattern in CONDITIONS.items():
        if re.search(pattern, lower):
            wanted["conditions"].append(condition)
            rest = re.sub(pattern, " ", rest)
    wanted["topics"] = topics_in(rest)
    names = re.findall(r"[a-z][a-z0-9]*(?:[-.][a-z0-9]+)+", lower)
    names = [name for name in names if not name.endswith((".csv", ".json", ".jsonl", ".toml", ".txt"))]
    wanted["models"] = [name for name in names if any(c in "0123456789" for c in name)][:5]
    growth, rest = growth_in(rest)
    wanted["growth"] = growth
    if growth and "growth" not in wanted["topics"]:
        wanted["topics"].append("growth")
    target, words = percentage_in(rest)
    wanted["target_words"] = words
    wanted["target_fraction"] = target if "cost" in wanted["topics"] else None
    if words and wanted["target_fraction"] is None:
        why = "a saving is measured for cost only, and the question does not tie this number to cost"
        missing.append({"what": f"the target “{words}”", "why": why, "to_answer": "Ask for a saving of cost in percent."})
    return wanted


def look_at(name, file):
    """One file: what it is, and whether the team can work with it. `file` is what the tools know it by."""
    try:
        look, ref = inspect(file)
    except Exception as error:
        missing.append({"what": f"everything about {name}", "why": str(error), "to_answer": BRING})
        return {"name": name, "file": file, "usable": False, "sufficiency": "insufficient", "reason": str(error)}
    usable = look["rows_examined"] > 0
    if not usable:
        headers = ", ".join(column["header"] for column in look["unmapped"][:12])
        why = f"it has no row with a time or tokens [{ref}]" + (f"; its columns are: {headers}" if headers else "")
        missing.append({"what": f"everything about {name}", "why": why, "to_answer": BRING})
    keep = ["kind", "kind_title", "format", "columns", "unmapped", "rows_examined", "bad_rows", "sufficiency", "missing",
            "not_answerable"]
    return {"name": name, "file": file, "usable": usable, "ref": ref, **{key: look[key] for key in keep},
            "has_prompts": [c["column"] for c in look["columns"] if c["column"] in ["prompt", "prompt_hash", "prefix_hash"]]}


def look_at_all(files):
    """All files but price lists, each once."""
    names = [file["name"] for file in files]
    looks, price_list = [], None
    for number, one in enumerate(files, 1):
        alone = names.count(one["name"]) == 1
        name = one["name"] if alone else f"{one['name']} (file {number})"
        file = one["name"] if alone else one["id"]
        if one["name"].endswith(".toml") or "price" in one["name"].lower() and one["name"].endswith(".json"):
            price_list = file
        elif len(looks) < MAX_FILES:
            looks.append(look_at(name, file))
        else:
            missing.append({"what": f"everything about {name}", "why": f"only {MAX_FILES} logs are read in one run",
                            "to_answer": "Ask again with the rest of the files."})
    if not looks:
        missing.append({"what": "everything that needs data", "why": "no log was attached", "to_answer": BRING})
    return looks, price_list


def cannot(looks, wanted):
    """The questions asked that the logs cannot answer, and why."""
    asked = list(wanted["topics"])
    if "no_slower" in wanted["conditions"] and "latency" not in asked:
        asked.append("latency")
    for look in looks:
        reasons = {item["question"]: item for item in look.get("not_answerable", [])}
        for topic in asked if look["usable"] else []:
            question, what, advice = NEEDS[topic]
            if question in reasons:
                what += f" ({look['name']})" if len(looks) > 1 else ""
                why = f"{reasons[question]['reason']} [{look['ref']}]"
                missing.append({"what": what, "why": why, "to_answer": advice, "file": look["name"], "topic": topic})


def beyond_the_team(topics):
    """What is asked and no tool of the team answers."""
    if not topics:
        known = ", ".join(sorted(TOPICS))
        missing.append({"what": "the question itself", "to_answer": "Ask about one of these, with other words.",
                        "why": f"no word of it belongs to what this team knows: {known}; it gives its standard report"})
    for asked, what in NOT_MEASURED.items():
        if all(topic in topics for topic in asked):
            missing.append({"what": what, "why": "no tool of this team measures it", "to_answer": "Ask your own tools."})


def sufficiency(looks):
    levels = [look["sufficiency"] for look in looks]
    if not any(look["usable"] for look in looks) or all(level == "insufficient" for level in levels):
        return "insufficient", "no file has both input and output tokens of LLM requests"
    if missing or "partial" in levels or "insufficient" in levels:
        return "partial", "not all that is asked can be read from the files, see what is missing"
    return "sufficient", "the files have times, tokens and models"


def triage(text):
    wanted = read_question(text)
    beyond_the_team(wanted["topics"])
    looks, price_list = look_at_all(files)
    cannot(looks, wanted)
    level, why = sufficiency(looks)
    think(f"The data is {level}: {why}.")
    # What cannot be read at all is not profiled either.
    workflow = WORKFLOWS[level] if [look for look in looks if look["usable"]] else ["data_helper"]
    return {"question": text, "wanted": wanted, "category": (wanted["topics"] or ["cost"])[0],
            "secondary_categories": wanted["topics"][1:], "files": looks, "price_list": price_list,
            "data_sufficiency": level, "why": why, "workflow": workflow, "missing": missing, "sources": sources}


triage(input["text"])
