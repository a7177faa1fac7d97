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
