"""Actions: an ordered plan for each log, by rule from the options that optimization chose.

A step has no owner and no date: nobody told the team who does what until when. Its saving is the difference between
two results of what_if, so what it adds to the steps before it.
"""

# What to do for each kind of change: what comes first, then the change itself.
BEFORE = {
    "prompt_caching": ("Measure which share of the input repeats",
                       "Compare the beginnings of prompts (system text, tools, examples), or read the cached tokens "
                       "that the provider reports.", "the share is known", "low"),
    "other_model": ("Try {model} on a sample of real requests",
                    "Compare answers, tokens and time to answer with those of the model in use.",
                    "the sample shows that answers are good and quick enough", "medium"),
    "shorter_prompts": ("Find what can go from the prompts",
                        "Look at the longest prompts first: repeated instructions, whole documents, old turns.",
                        "a sample with shortened prompts gets answers as good as before", "medium"),
}
CHANGE = {
    "prompt_caching": ("Use the provider's prompt cache",
                       "Put what repeats at the beginning of the prompt, always the same, and turn caching on.",
                       "the provider reports at least {cached_share} of the input as cached"),
    "capped_output": ("Cap answers at {max_tokens:,} tokens",
                      "Set the maximum of output tokens in the request, and ask for short answers.",
                      "no request gets more than {max_tokens:,} tokens, and users accept the answers that were cut"),
    "shorter_prompts": ("Shorten prompts by {fraction}", "Roll out what the sample has shown to work.",
                        "input tokens per request are {fraction} lower"),
    "other_model": ("Move the traffic to {model}", "Begin with a small part of the traffic and watch errors and time to "
                    "answer.", "all traffic runs on {model}"),
}
# Which columns each kind of change needs to be judged afterwards.
WATCH = ["model", "latency", "cost", "cached_input_tokens"]


def step(title, how, done_when, effort, risk, more):
    return {"title": title, "how": how, "done_when": done_when, "effort": effort, "risk": risk, "owner": None,
            "saving_fraction": None, "saving_usd": None, "source_calls": [], "source_refs": [], **more}


def record_columns(profile, file):
    """Without these columns nobody can tell later whether the change did what it should."""
    lacking = [gap["field"] for gap in profile["missing"] if gap["field"] in WATCH]
    if not lacking:
        return []
    names = ", ".join(name.replace("_", " ") for name in lacking)
    return [step(f"Log what is missing: {names}", "Write these fields into the log with each request.",
                 "a new log has these columns", "low", "none", {"file": file})]


def preparation(change, option, enough, file):
    """What to find out before a change, if there is something."""
    if change["kind"] not in BEFORE:
        return []
    title, how, done_when, effort = BEFORE[change["kind"]]
    refs = {}
    for other in enough:
        if other["kind"] == change["kind"] == "prompt_caching":
            share = other["arguments"]["cached_share"]
            done_when += f" ({100 * share:.0f} % of the input is enough to reach the target by this step alone)"
            refs = {"source_calls": other["source_calls"], "source_refs": other["source_refs"]}
    return [step(title.format(**change), how, done_when, effort, "none", {"file": file, **refs})]


def in_words(change):
    """The sizes of a change as they stand in a text."""
    return {key: f"{100 * value:.0f} %" if isinstance(value, float) else value for key, value in change.items()}


def change_step(change, rung, before, file):
    """The change itself, with what it adds to the rung before."""
    title, how, done_when = CHANGE[change["kind"]]
    saved = {"fraction": before["saving_fraction"], "usd": before["saving_usd"]} if before else {"fraction": 0, "usd": 0}
    sources = [rung] + ([before] if before else [])
    calls, refs = [], []
    for source in sources:
        for call, ref in zip(source["source_calls"], source["source_refs"]):
            if ref not in refs:
                calls.append(call)
                refs.append(ref)
    words = in_words(change)
    return step(title.format(**words), how, done_when.format(**words), rung["step_effort"], rung["step_risk"], {
        "file": file, "kind": change["kind"],
        "saving_fraction": round(rung["saving_fraction"] - saved["fraction"], 6),
        "saving_usd": round(rung["saving_usd"] - saved["usd"], 6),
        "total_fraction": rung["saving_fraction"], "source_calls": calls, "source_refs": refs})


def measure_again(costed, file):
    """The last step, with what it should find."""
    baseline, target = costed["baseline"], costed["target_fraction"]
    now = 1000 * baseline["cost_usd"] / baseline["requests"] if baseline["requests"] else None
    done_when = "the new report shows the saving"
    if now is not None and target:
        goal = f"{100 * target:.0f} % less than now (${now:,.4f} [{baseline['ref']}])"
        done_when = f"1,000 requests cost at most ${now * (1 - target):,.4f}, {goal}"
    return step("Measure again", "Run this team on a log from after the changes.", done_when, "low", "none",
                {"file": file})


# What to do about the slowest requests, by what they have in common.
SLOW = {
    "by_model": "Try another model on a sample of these requests, and compare time and answers.",
    "by_prompt_length": "Look at what makes these prompts long, and leave out what the answer does not need.",
    "by_output_length": "Ask for shorter answers, cap them, or show them while they are written.",
    "by_load": "Spread what can wait over quieter minutes, or ask the provider for more capacity.",
    "by_hour": "Look at what runs in this hour, and move what can wait.",
    "by_user": "Ask these users what they send, and look at the longest of their requests.",
}
REPEATED = 0.05  # From this share of repeated prompts on a cache of answers is worth a step.


def from_studies(file):
    """Steps that follow from what analysis found, where it was asked for or stands out."""
    found = {study["tool"]: study for study in input.get("studies") or [] if study["file"] == file}
    topics = (input.get("wanted") or {"topics": []})["topics"]
    steps = []

    def add(tool, title, how, done_when, effort, risk):
        study = found[tool]
        steps.append(step(title, how, done_when, effort, risk, {
            "file": file, "source_calls": [study["call"] or study["ref"]], "source_refs": [study["ref"]]}))

    latency = found["latency_drivers"]["result"] if "latency_drivers" in found else None
    if latency and latency["bottlenecks"] and "latency" in topics:
        worst = latency["bottlenecks"][0]
        add("latency_drivers", f"Look at the slowest requests: {worst['name']}", SLOW[worst["dimension"]],
            f"95 % of the answers come in less than {latency['latency_ms']['p95']:,} ms", "medium", "none")
    limits = found["rate_limits"]["result"] if "rate_limits" in found else {}
    for key in ["requests_per_minute", "tokens_per_minute"]:
        limit = (limits.get(key) or {}).get("limit")
        if limit and limit["minutes_over"]:
            what = key.replace("_per_minute", "")
            add("rate_limits", f"Keep {what} below {limit['limit']:,} a minute, or ask for a higher limit",
                "Queue what can wait, and spread it over the minutes after a peak.",
                f"no minute goes over the limit (now {limit['minutes_over']:,})", "medium", "low")
    odd = found["log_anomalies"]["result"] if "log_anomalies" in found else None
    if odd and odd["details"] and "anomalies" in topics:
        first = odd["details"][0]
        add("log_anomalies", f"Find out what happened at {first['timestamp']}",
            f"Look at the {first['metric_name'].replace('_', ' ')} of that {odd['unit']}: who sent them, and what was released.",
            "the cause is known", "low", "none")
    exact = (found["prompt_repeats"]["result"] if "prompt_repeats" in found else {}).get("exact")
    if exact and (exact["share_of_requests"] or 0) >= REPEATED:
        add("prompt_repeats", "Keep the answers of prompts that repeat word for word",
            "Look an answer up by a hash of the whole prompt before the model is asked, where an old answer will do.",
            f"less than {exact['repeated_requests']:,} requests repeat an earlier one in a log of this size", "medium", "medium")
    return steps


def plan(costed, profile):
    """The steps for one log."""
    file = costed["name"]
    steps = record_columns(profile, file)
    chosen = costed["chosen"]
    before = None
    for rung in costed["rungs"] if chosen else []:
        change = rung["steps"][-1]
        option = [o for o in costed["options"] if o["arguments"] == change][0]
        rung = {**rung, "step_effort": option["effort"], "step_risk": option["risk"]}
        steps += preparation(change, option, costed["enough_alone"], file)
        steps.append(change_step(change, rung, before, file))
        before = rung
        if len(rung["steps"]) == len(chosen["steps"]):
            break
    steps += from_studies(file)
    return steps + ([measure_again(costed, file)] if chosen else [])


def not_planned(costed):
    """The options that the plan leaves out, and why."""
    steps = costed["chosen"]["steps"] if costed["chosen"] else []
    left = []
    for option in [o for o in costed["options"] if o["arguments"] not in steps]:
        saving = option["saving_fraction"]
        why = option["excluded"] or option["reason"]
        if not why and saving is not None and saving < 0.01:
            why = "it saves less than 1 %" if saving >= 0 else "it costs more than now"
        elif not why and option["kind"] == "batching":
            why = "it is only for requests that nobody waits for, and the log does not say which those are"
        elif not why:
            why = "the steps before it reach the target" if costed["target_fraction"] else "others come first by risk"
        left.append({"name": option["name"], "file": costed["name"], "why": why})
    return left


def table(steps, many):
    """The plan as rows for the report."""
    rows = []
    for one in steps:
        adds = "-" if one["saving_fraction"] is None else f"{100 * one['saving_fraction']:.1f} %"
        refs = " ".join(f"[{ref}]" for ref in one["source_refs"]) or "-"
        title = f"{one['file']}: {one['title']}" if many else one["title"]
        rows.append([one["step"], title, one["how"], one["effort"], one["risk"], adds, one["done_when"], refs])
    return {"head": ["#", "Step", "How", "Effort", "Risk", "Adds", "Done when", "Source"], "rows": rows}


def actions(files, profiles):
    steps, left = [], []
    for costed in files:
        profile = [p["profile"] for p in profiles if p["name"] == costed["name"]][0]
        steps += plan(costed, profile)
        left += not_planned(costed)
    for number, one in enumerate(steps, 1):
        one["step"] = number
    return {"actions": steps, "table": table(steps, len(files) > 1), "not_planned": left}


actions(input["files"], input["profiles"])
