"""Analysis: what makes the cost and the waiting, what repeats, peaks, outliers, growth and what is to come.

Each study is one tool call. One that cannot be made is left out: with a line under `missing` where the question asks for
it, and in silence where it does not, since the first look has told already what the log lacks.
"""

GROWTH = [1.1, 1.5, 2]  # What is tried when neither the question nor `assume` names a factor.

missing = []
sources = []
studies = []
numbers = dict(input.get("numbers") or {})
assume = input.get("assume") or {}
wanted = input.get("wanted") or {"topics": []}


def call(name, tool, arguments, told=None):
    """Calls a tool and notes the call as a source; `told` stands for long arguments in the report."""
    numbers[name] = numbers.get(name, 0) + 1
    ref = f"{name}#{numbers[name]}"
    source = {"ref": ref, "tool": name, "agent": "optimizer-analysis", "arguments": told or arguments}
    sources.append(source)
    try:
        result = tool(**arguments)
    except Exception as error:
        source["error"] = str(error)
        raise
    source["call"] = result.get("_call")
    return result, ref


def study(file, name, tool, arguments, topic, what):
    """One study of a log, or (None, None). `topic` is the one for whose sake a failure is told."""
    try:
        result, ref = call(name, tool, {"file": file["file"], **arguments})
    except Exception as error:
        if topic in wanted["topics"] or not str(error).startswith("tool_failed"):
            missing.append({"what": f"{what} ({file['name']})", "why": str(error), "to_answer": "See the data request."})
        return None, None
    kept = {key: result[key] for key in result if key != "_call"}
    studies.append({"file": file["name"], "tool": name, "ref": ref, "call": result.get("_call"), "result": kept})
    return result, ref


def count(value):
    if value is None:
        return "not known"
    return f"{value:,}" if isinstance(value, int) or value % 1 else f"{int(value):,}"


def percent(part):
    return "not known" if part is None else f"{100 * part:.1f} %"


def usd(amount):
    if amount is None:
        return "not known"
    return f"${amount:,.2f}" if abs(amount) >= 1 or amount == 0 else f"${amount:.4g}"


def when(time):
    return time.replace("T", " ").replace("Z", " UTC")


def table(title, head, rows, ref):
    return [{"title": title, "head": head + ["Source"], "rows": [row + [f"[{ref}]"] for row in rows]}] if rows else []


def cost(file, more, found):
    it, ref = study(file, "cost_drivers", cost_drivers, more, "cost", "what makes the cost")
    if not it:
        return []
    rows = [[part["name"].replace("_", " "), "-", usd(part["cost_usd"]), percent(part["share_of_cost"])]
            for part in it["parts"]]
    rows += [[one["name"], percent(one["share_of_requests"]), usd(one["cost_usd"]), percent(one["share_of_cost"])]
             for one in it["drivers"]]
    for top in (it["concentration"] or [])[:3]:
        rows.append([f"the most expensive {top['most_expensive_percent']} % of the requests",
                     f"{top['most_expensive_percent']}.0 %", usd(top["cost_usd"]), percent(top["share_of_cost"])])
    if it["drivers"]:
        top = it["drivers"][0]
        found["cost"] = (f"Largest driver of the cost: {top['name']}, {percent(top['share_of_cost'])} of it with "
                         f"{percent(top['share_of_requests'])} of the requests [{ref}].")
    by_user = [[one["name"], count(one["requests"]), usd(one["cost_usd"]), percent(one["share_of_cost"])]
               for one in (it["by_user"] or [])[:5]]
    return (table("What makes the cost", ["What", "Share of requests", "Cost", "Share of cost"], rows, ref)
            + table("Cost by user, the largest", ["User", "Requests", "Cost", "Share of cost"], by_user, ref))


def speed(file, found):
    it, ref = study(file, "latency_drivers", latency_drivers, {}, "latency", "what makes answers slow")
    if not it:
        return []
    rows = []
    for field in ["by_model", "by_prompt_length", "by_output_length", "by_load"]:
        for one in (it[field] or [])[:8]:
            rows.append([one["name"], count(one["count"])] + [count(one[p]) for p in ["p50", "p95", "p99"]])
    tables = table("Latency in ms, by model, length and load", ["Requests", "How many", "p50", "p95", "p99"], rows, ref)
    slow = [[one["name"], percent(one["share_of_requests"]), percent(one["share_of_slow"]), count(one["times_as_often"])]
            for one in it["bottlenecks"]]
    tables += table(f"Where the slowest {count(it['slow_requests'])} requests come from ({count(it['slow_from_ms'])} ms and more)",
                    ["Requests", "Share of all", "Share of the slow", "Times as often"], slow, ref)
    fit = it["fit"]
    if fit:
        tables += table("Effect of length on latency (least squares)",
                        ["Base in ms", "ms for each input token", "ms for each output token", "Explained"],
                        [[count(fit["base_ms"]), fit["ms_per_input_token"], fit["ms_per_output_token"],
                          percent(fit["r_squared"])]], ref)
    if it["bottlenecks"]:
        top = it["bottlenecks"][0]
        found["latency"] = (f"Slowest answers: {percent(top['share_of_slow'])} of the slowest are {top['name']}, which are "
                            f"{percent(top['share_of_requests'])} of all [{ref}].")
    return tables


def repeats(file, found):
    it, ref = study(file, "prompt_repeats", prompt_repeats, {}, "caching", "what repeats in the prompts")
    if not it or not it["basis"]:
        return [], None
    rows = []
    if it["exact"]:
        one = it["exact"]
        rows.append(["Whole prompts that came before", count(one["repeated_requests"]), percent(one["share_of_requests"]),
                     count(one["repeated_input_tokens"])])
    if it["named_beginnings"]:
        one = it["named_beginnings"]
        rows.append(["Beginnings (by their hash) that were still kept", count(one["requests_with_hit"]),
                     percent(one["share_of_requests"]), "not known"])
    share = None
    if it["prefix"] and it["prefix"]["cacheable_share"] is not None:
        one = it["prefix"]
        share = {"cached_share": one["cacheable_share"], "ref": ref}
        rows.append([f"Beginnings of {count(one['least_tokens'])} tokens and more that a cache could have kept",
                     count(one["requests_with_hit"]), percent(one["cacheable_share"]) + " of the input",
                     count(one["cacheable_input_tokens"])])
        found["caching"] = (f"Caching: {percent(one['cacheable_share'])} of the input tokens could have come from a prompt cache, "
                            f"by the beginnings that the prompts share [{ref}].")
    return table("What repeats in the prompts", ["What", "Requests", "Share", "Input tokens"], rows, ref), share


def peaks(file, found):
    limits = {key: assume[key] for key in ["requests_per_minute", "tokens_per_minute"] if assume.get(key)}
    it, ref = study(file, "rate_limits", rate_limits, limits, "limits", "peaks against rate limits")
    if not it:
        return []
    rows, over = [], []
    for key, name in [("requests_per_minute", "requests"), ("tokens_per_minute", "tokens")]:
        side = it[key]
        if not side:
            continue
        needed = {one["longest_wait_minutes"]: one["limit"] for one in side["needed"]}
        rows.append([name, count(side["mean"]), count(side["max"])] + [count(needed[wait]) for wait in [1, 5, 60]])
        if side["limit"]:
            limit = side["limit"]
            over.append([name, count(limit["limit"]), count(limit["minutes_over"]), count(limit["largest_backlog"]),
                         count(limit["longest_wait_minutes"])])
        if name == "requests":
            found["limits"] = (f"Peaks: the fullest minute has {count(side['max'])} requests, {count(needed[5])} a minute "
                               f"are enough if requests may wait 5 minutes [{ref}].")
    tables = table("Peaks by minute, and the least limit for a longest wait",
                   ["By minute", "Mean", "Fullest (no wait)", "1 min wait", "5 min wait", "60 min wait"], rows, ref)
    return tables + table("Under the limits that were given",
                          ["By minute", "Limit", "Minutes over it", "Largest backlog", "Longest wait in minutes"], over, ref)


def outliers(file, found):
    it, ref = study(file, "log_anomalies", log_anomalies, {}, "anomalies", "what is unusual")
    if not it:
        return []
    rows = [[when(one["timestamp"]), one["metric_name"].replace("_", " "), count(one["actual"]), count(one["expected"]),
             count(one["z_score"]), one["severity"]] for one in it["details"][:8]]
    found["anomalies"] = f"Unusual: {count(it['count'])} values over {count(it['complete_buckets'])} {it['unit']}s [{ref}]."
    return table(f"Unusual {it['unit']}s: {len(rows)} of {count(it['count'])}",
                 ["From", "What", "Is", "Expected", "z score", "Severity"], rows, ref)


def growing(file, more, found):
    factor = assume.get("growth") or wanted.get("growth")
    factors = [factor] if factor else GROWTH
    scenarios = [{"requests": one} for one in factors]
    it, ref = study(file, "usage_growth", usage_growth, {**more, "scenarios": scenarios}, "growth", "what growth costs")
    if not it:
        return []
    rows = [[f"{count(one['requests_factor'])} times the requests", usd(one["cost_usd"]), usd(one["cost_per_30_days_usd"]),
             count(one["peak_minute_requests"]), count(one["peak_minute_tokens_at_most"])]
            for one in [it["now"]] + it["scenarios"]]
    if factor:
        one = it["scenarios"][0]
        found["growth"] = (f"Growth: with {count(factor)} times the requests the traffic of this log costs {usd(one['cost_usd'])}, "
                           f"{usd(one['more_usd'])} more [{ref}].")
    return table("Growth of the same traffic", ["Scenario", "Cost of the log's time", "Cost of 30 days", "Peak minute: requests",
                                                "Peak minute: tokens, at most"], rows, ref)


def to_come(file, more, prefix, found):
    it, ref = study(file, "usage_forecast", usage_forecast, more, "growth", "a forecast")
    if not it:
        return [], []
    rows = []
    for metric, one in it["metrics"].items():
        if one:
            show = usd if metric == "cost_usd" else lambda value: count(round(value))
            error = [tried["error_share"] for tried in one["hold_out"]["tried"] if tried["method"] == one["method"]][0]
            rows.append([metric.replace("_", " "), one["method"].replace("_", " "), show(one["mean"]),
                         show(one["total_of_horizon"]), percent(error)])
    one = it["metrics"]["requests"]
    found["forecast"] = (f"To come: {count(round(one['total_of_horizon']))} requests in the next {count(it['horizon'])} "
                         f"{it['unit']}s, if all goes on as before [{ref}].")
    points = [{"time": p["start"], "observed": p["value"]} for p in one["history"]]
    points += [{"time": p["start"], "forecast": p["value"]} for p in one["points"]]
    arguments = {"kind": "line", "x": "time", "y": ["observed", "forecast"], "data": points, "name": f"{prefix}forecast",
                 "title": f"Requests by {it['unit']}, and what is to come"}
    drawn = draw(arguments, {"kind": "line", "data": f"of {ref}"})
    return table(f"The next {count(it['horizon'])} {it['unit']}s", ["What", "By", f"Mean by {it['unit']}", "In all",
                                                                  "Error when tried on the last part of the log"], rows, ref), drawn


def draw(arguments, told):
    try:
        drawn, ref = call("make_chart", make_chart, arguments, told)
    except Exception as error:
        missing.append({"what": "the chart of the forecast", "why": str(error), "to_answer": "See the error."})
        return []
    chart_of = {key: drawn.get(key) for key in ["file_id", "name", "media_type", "bytes", "alt"]}
    return [{**chart_of, "ref": ref}]


# The studies in the order of a report: the topic that asks for each, what it is, and how many tool calls it takes.
STUDIES = [("cost", "what makes the cost", 1), ("latency", "what makes answers slow", 1),
           ("caching", "what repeats in the prompts", 1), ("limits", "peaks against rate limits", 1),
           ("anomalies", "what is unusual", 1), ("growth", "what growth costs", 1), ("forecast", "a forecast", 2)]


def possible(profile):
    """The studies that the log has something for."""
    tokens, times = profile["input_tokens"] and profile["output_tokens"], profile["first_ts"]
    fit = {"cost": tokens, "latency": profile["latency_ms"], "caching": True, "limits": times, "anomalies": times,
           "growth": times and tokens, "forecast": times}
    return [one for one in STUDIES if fit[one[0]]]


def affordable(file):
    """As many studies of a log as the run has steps for, those first that the question asks for; all where that is no
    matter. What is left out is told."""
    studies = possible(file["profile"])
    left = input.get("calls_per_log")
    if left is None:
        return [topic for topic, _, _ in studies]
    asked = [topic for topic in wanted["topics"]] + (["forecast"] if "growth" in wanted["topics"] else [])
    chosen = []
    for topic, _, calls in [s for s in studies if s[0] in asked] + [s for s in studies if s[0] not in asked]:
        if calls <= left:
            left -= calls
            chosen.append(topic)
    skipped = [what for topic, what, _ in studies if topic not in chosen]
    if skipped:
        missing.append({"what": f"{', '.join(skipped)} ({file['name']})",
                        "why": "the steps of a run do not suffice for every study of so many logs",
                        "to_answer": "Ask again with one or two logs."})
    return chosen


def look_into(file, prefix):
    profile, chosen = file["profile"], affordable(file)
    more = {"price_list": input["price_list"]} if input.get("price_list") else {}
    if not profile["by_model"] and len(wanted.get("models") or []) == 1:
        more = {**more, "baseline_model": wanted["models"][0]}
    found, tables, charts, share = {}, [], [], None
    if "cost" in chosen:
        tables += cost(file, more, found)
    if "latency" in chosen:
        tables += speed(file, found)
    if "caching" in chosen:
        rows, share = repeats(file, found)
        tables += rows
    if "limits" in chosen:
        tables += peaks(file, found)
    if "anomalies" in chosen:
        tables += outliers(file, found)
    if "growth" in chosen:
        tables += growing(file, more, found)
    if "forecast" in chosen:
        rows, charts = to_come(file, more, prefix, found)
        tables += rows
    return {"name": file["name"], "tables": tables, "answers": found, "charts": charts, "repeats": share}


def analysis(files):
    results = []
    for number, file in enumerate(files, 1):
        think(f"Looking into {file['name']}", progress=(number - 1) / len(files))
        results.append(look_into(file, f"log-{number}-" if input.get("many") else ""))
    return {"files": results, "studies": studies, "missing": missing, "sources": sources}


analysis(input["files"])
