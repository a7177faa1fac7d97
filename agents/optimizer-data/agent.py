"""Data: an exact profile of each log, its tables for the report, and its charts."""

missing = []
sources = []
numbers = {}


def call(name, tool, arguments, told):
    """Calls a tool and notes the call as a source; `told` stands for the arguments in the report."""
    numbers[name] = numbers.get(name, 0) + 1
    ref = f"{name}#{numbers[name]}"
    source = {"ref": ref, "tool": name, "agent": "optimizer-data", "arguments": told}
    sources.append(source)
    try:
        result = tool(**arguments)
    except Exception as error:
        source["error"] = str(error)
        raise
    source["call"] = result.get("_call")
    return result, ref


def draw(arguments, told):
    """A chart, or a note in `missing` why there is none."""
    try:
        drawn, ref = call("chart", chart, arguments, told)
    except Exception as error:
        missing.append({"what": f"the chart {told['kind']}", "why": str(error), "to_answer": "See the error."})
        return []
    chart_of = {key: drawn.get(key) for key in ["file_id", "name", "media_type", "bytes", "alt"]}
    return [{**chart_of, "ref": ref}]


def charts(profile, ref, prefix):
    """Requests and tokens over time, and how large prompts and answers are; of several logs two charts each."""
    made = []
    if profile["time_series"]:
        tokens = ["tokens_over_time"] if profile["input_tokens"] and not prefix else []
        for kind in ["requests_per_minute"] + tokens:
            name = prefix + kind.replace("_", "-")
            arguments = {"kind": kind, "name": name, "time_series": profile["time_series"]}
            made += draw(arguments, {"kind": kind, "time_series": f"of {ref}"})
    histograms = profile["token_histogram"] or {}
    for side in ["input"] if prefix else ["input", "output"]:
        if histograms.get(side):
            name = f"{prefix}{side}-tokens"
            arguments = {"kind": "token_histogram", "name": name, "side": side, "histogram": histograms[side]}
            made += draw(arguments, {"kind": "token_histogram", "side": side, "histogram": f"of {ref}"})
    return made


def count(value):
    """A number as people read it; what is not known is said."""
    if value is None:
        return "not known"
    return f"{value:,}" if isinstance(value, int) or value % 1 else f"{int(value):,}"


def when(time):
    return "not known" if time is None else time.replace("T", " ").replace("Z", " UTC")


def figures(p, ref):
    """The main figures, one row each: what, how much, from which call."""
    rows = [["Requests", count(p["requests"])], ["First", when(p["first_ts"])], ["Last", when(p["last_ts"])]]
    for key, name in [("input_tokens", "Context (input) tokens"), ("output_tokens", "Generated (output) tokens"),
                      ("cached_input_tokens", "Input tokens from the prompt cache")]:
        if p[key]:
            rows.append([name, count(p[key]["total"])])
    for key, name in [("peak_minute", "Peak minute"), ("peak_hour", "Peak hour")]:
        if p[key]:
            peak = p[key]
            span = f"{when(peak['start']).replace(' UTC', '')} to {when(peak['end']).split(' ', 1)[-1]}"
            rows.append([name, f"{span}: {count(peak['requests'])} requests, {count(peak['input_tokens'])} input tokens"])
    if p["rates"]:
        rates = p["rates"]
        rows.append(["Requests per minute", f"mean {count(rates['requests_per_minute']['mean'])} over "
                     f"{count(rates['calendar_minutes'])} minutes, of which {count(rates['active_minutes'])} had requests"])
    for gap in p["gaps"][:1]:
        rows.append(["Longest pause", f"{count(gap['seconds'])} s from {when(gap['from'])}"])
    rows.append(["Rows that could not be read", count(p["bad_rows"]["count"])])
    rows.append(["Rows that repeat an earlier row (counted all the same)", count(p["duplicates"]["count"])])
    return {"title": "Figures", "head": ["What", "How much", "Source"], "rows": [row + [f"[{ref}]"] for row in rows]}


def distributions(p, ref):
    """Percentiles of what each request has, exact."""
    names = ["min", "p50", "p90", "p95", "p99", "max", "mean"]
    rows = []
    for key, name in [("input_tokens", "Input tokens per request"), ("output_tokens", "Output tokens per request"),
                      ("latency_ms", "Latency in ms")]:
        if p[key] and p[key]["p50"] is not None:
            rows.append([name] + [count(p[key][of]) for of in names] + [f"[{ref}]"])
    return {"title": "Percentiles (exact, nearest rank)", "head": ["What"] + names + ["Source"], "rows": rows}


def shares(p, ref, key, title):
    """Who or what makes the traffic: the largest five."""
    shown = (p[key] or {"shown": []})["shown"][:5]
    rows = [[one["name"], count(one["requests"]), f"{100 * one['share_of_requests']:.1f} %", count(one["input_tokens"]),
             count(one["output_tokens"]), f"[{ref}]"] for one in shown]
    title = f"{title}: {len(rows)} of {count(p[key]['distinct'])}" if rows else title
    return {"title": title, "head": ["Name", "Requests", "Share", "Input tokens", "Output tokens", "Source"], "rows": rows}


def bad_rows(p, ref):
    rows = [[row["line"], row["reason"], row["text"][:80], f"[{ref}]"] for row in p["bad_rows"]["shown"][:5]]
    return {"title": f"Rows that could not be read: {len(rows)} of {count(p['bad_rows']['count'])}",
            "head": ["Line", "Why", "Text", "Source"], "rows": rows}


def tables(p, ref):
    found = [figures(p, ref), distributions(p, ref), shares(p, ref, "by_model", "By model"),
             shares(p, ref, "by_user", "By user"), bad_rows(p, ref)]
    return [one for one in found if one["rows"]]


def answers(p, ref):
    """What the log says on each topic that a question may name, in a sentence."""
    said = {}
    if p["latency_ms"]:
        it = p["latency_ms"]
        said["latency"] = (f"Latency: half of the answers come within {count(it['p50'])} ms, 95 % within {count(it['p95'])} "
                           f"ms, the slowest took {count(it['max'])} ms [{ref}].")
    if p["peak_minute"]:
        it = p["peak_minute"]
        said["volume"] = f"Volume: the peak is the minute from {when(it['start'])} with {count(it['requests'])} requests [{ref}]."
    for topic, key in [("users", "by_user"), ("models", "by_model")]:
        if p[key]:
            it = p[key]["shown"][0]
            said[topic] = (f"Of {count(p[key]['distinct'])} {topic}, {it['name']} makes most requests: "
                           f"{count(it['requests'])}, {100 * it['share_of_requests']:.1f} % [{ref}].")
    if p["cached_input_tokens"]:
        share = p["cached_input_tokens"]["share_of_input"]
        said["caching"] = f"Caching: {100 * share:.1f} % of the input tokens came from a prompt cache [{ref}]." if share else (
            f"Caching: no input token came from a prompt cache [{ref}].")
    return said


def in_short(p, file, ref):
    """The figures as the result's `data` has them."""
    return {"file": file["name"], "rows": p["rows"], "requests": p["requests"], "first_ts": p["first_ts"],
            "last_ts": p["last_ts"], "input_tokens": (p["input_tokens"] or {}).get("total"),
            "output_tokens": (p["output_tokens"] or {}).get("total"), "bad_rows": p["bad_rows"]["count"],
            "peak_minute": p["peak_minute"],
            "percentiles": {key: p[key] for key in ["input_tokens", "output_tokens", "latency_ms"]},
            "unmapped_columns": [column["header"] for column in file["unmapped"]],
            "missing_columns": [gap["field"] for gap in p["missing"]], "source_refs": [ref]}


def profile_file(file, prefix):
    """The profile without the points that only charts need."""
    profile, ref = call("log_profile", log_profile, {"file": file["file"]}, {"file": file["name"]})
    # Of many logs the steps of the run go into what the tables say.
    drawn = charts(profile, ref, prefix) if len(input["files"]) <= 2 else []
    kept = {key: profile[key] for key in profile if key not in ["time_series", "token_histogram", "_call"]}
    return {"name": file["name"], "file": file["file"], "ref": ref, "profile": kept, "short": in_short(kept, file, ref), "answers": answers(kept, ref),
            "tables": tables(kept, ref), "charts": drawn}


def data(files):
    profiles = []
    for number, file in enumerate(files, 1):
        think(f"Profiling {file['name']}", progress=(number - 1) / len(files))
        try:
            profiles.append(profile_file(file, f"log-{number}-" if len(files) > 1 else ""))
        except Exception as error:
            missing.append({"what": f"the profile of {file['name']}", "why": str(error),
                            "to_answer": "Mend the file and run again."})
    return {"files": profiles, "missing": missing, "sources": sources}


data(input["files"])
