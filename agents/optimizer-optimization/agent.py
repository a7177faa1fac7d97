"""Optimization: what each change would save, alone and combined, and which of them reach the target.

Every amount comes from log_cost and what_if. What the log cannot tell is tried as an assumption and named as one.
"""

import math

# What is tried when the caller gives nothing better in `assume`. They are no findings.
ASSUME = {"cached_share": 0.5, "shorter_prompts": 0.2, "batch_share": 0.25}
SMALLEST_SAVING = 0.01  # Options below this are shown, but no plan is made of them.

# A judgement by kind of change, not a measurement. The order is that in which a plan takes them up: least risk first.
KINDS = {
    "prompt_caching": {"effort": "low", "risk": "low", "speed": "not slower", "quality": "same answers"},
    "capped_output": {"effort": "low", "risk": "medium", "speed": "not slower", "quality": "long answers are cut"},
    "shorter_prompts": {"effort": "medium", "risk": "medium", "speed": "not slower", "quality": "to be tested"},
    "other_model": {"effort": "medium", "risk": "high", "speed": "to be tested", "quality": "to be tested"},
    "batching": {"effort": "medium", "risk": "low", "speed": "slower", "quality": "same answers"},
}

missing = []
sources = []
numbers = dict(input.get("numbers") or {})
given = input.get("assume") or {}
assume = {**ASSUME, **given}


def call(name, tool, arguments, told=None):
    """Calls a tool and notes the call as a source; `told` stands for long arguments in the report."""
    numbers[name] = numbers.get(name, 0) + 1
    ref = f"{name}#{numbers[name]}"
    source = {"ref": ref, "tool": name, "agent": "optimizer-optimization", "arguments": told or arguments}
    sources.append(source)
    try:
        result = tool(**arguments)
    except Exception as error:
        source["error"] = str(error)
        raise
    source["call"] = result.get("_call")
    return result, ref, source["call"] or ref


def cached_share(file):
    """The share to try, and from which call it is, if it was measured. What the caller gives goes before what was measured."""
    measured = file.get("repeats")
    if measured and "cached_share" not in given:
        return measured["cached_share"], measured["ref"]
    return assume["cached_share"], None


def changes(file):
    """What to try on the same models, and why something is not tried."""
    scenarios, profile = [], file["profile"]
    cached = profile["cached_input_tokens"]
    share, ref = cached_share(file)
    if ref:
        # Where hardly anything repeats, or all that does is cached already, there is nothing to try.
        now = (cached or {}).get("share_of_input") or 0
        if share - now >= SMALLEST_SAVING:
            scenarios.append({"kind": "prompt_caching", "cached_share": share})
    elif cached and (cached["share_of_input"] or 0) >= assume["cached_share"]:
        share = f"{100 * cached['share_of_input']:.1f} %"
        missing.append({"what": "what more prompt caching saves", "why": f"{share} of the input is cached already",
                        "to_answer": "Give a larger `cached_share` in `assume`."})
    else:
        scenarios.append({"kind": "prompt_caching", "cached_share": share})
    if (profile["output_tokens"] or {}).get("p95"):
        scenarios.append({"kind": "capped_output", "max_tokens": profile["output_tokens"]["p95"]})
    scenarios.append({"kind": "shorter_prompts", "fraction": assume["shorter_prompts"]})
    scenarios.append({"kind": "batching", "share": assume["batch_share"]})
    return scenarios


def other_models(cost, baseline, named):
    """Models to try: those the question names, the cheapest of the same provider, and the cheapest of another."""
    on_models = [model for model in cost["on_models"] if model["fits_context"] is not False]
    now = baseline["model"]
    if not baseline["assumed"]:
        priced = [row for row in cost["by_model"] or [] if row["cost_usd"] is not None]
        now = max(priced, key=lambda row: row["cost_usd"])["priced_as"] if priced else now
    providers = [model["provider"] for model in on_models if model["model"] == now]
    cheaper = [model for model in on_models if model["cost_usd"] < baseline["cost_usd"]]
    same = [model["model"] for model in cheaper if model["provider"] in providers][:1]
    other = [model["model"] for model in cheaper if model["provider"] not in providers][:1]
    found = [name for name in named if name != baseline["model"]]
    for name in same + other:
        if name not in found:
            found.append(name)
    return found


def note_measured(options, file):
    """Says of the caching option that its share was measured, and where."""
    share, ref = cached_share(file)
    for one in options if ref else []:
        if one["kind"] == "prompt_caching":
            one["assumptions"] = one["assumptions"] + [f"the share is what the prompts of the log show [{ref}]"]
            one["source_refs"] = one["source_refs"] + [ref]


def option(scenario, file, ref, source, slower_refused):
    """One scenario of what_if as an option of the report."""
    rules = KINDS.get(scenario["kind"], {"effort": None, "risk": None, "speed": None, "quality": None})
    excluded = slower_refused and rules["speed"] == "slower"
    keep = ["kind", "arguments", "saving_fraction", "saving_usd", "cost_usd", "assumptions", "formula",
            "affected_requests", "reason"]
    return {"name": scenario["label"], "file": file, **{key: scenario.get(key) for key in keep}, **rules,
            "excluded": "it makes answers slower, which you rule out" if excluded else None,
            "source_calls": [source], "source_refs": [ref]}


def ladder(options):
    """The changes worth a step, least risk first: one, then two together, and so on."""
    steps = []
    for kind in KINDS:
        fit = [o for o in options if o["kind"] == kind and not o["excluded"] and kind != "batching"]
        fit = [o for o in fit if (o["saving_fraction"] or 0) >= SMALLEST_SAVING]
        steps += [o["arguments"] for o in fit[:1]]
    return [steps[:count] for count in range(2, min(len(steps), 5) + 1)], steps


def other_combinations(steps, rungs):
    """The combinations that the ladder leaves out, so that cost, risk and effort can be weighed against each other."""
    found = []
    for mask in range(1, 2 ** len(steps)):
        chosen = [step for at, step in enumerate(steps) if mask >> at & 1]
        if len(chosen) > 1 and chosen not in rungs:
            found.append(chosen)
    return found[:12]


SIZE = {"none": 0, "low": 1, "medium": 2, "high": 3}


def weigh(options, combined, stem):
    """The options and their combinations over saving, risk and effort: which of them no other one beats in everything."""
    choices = []
    for one in options + combined:
        kinds = [step["kind"] for step in one["arguments"].get("steps", [one["arguments"]])]
        if one["excluded"] or one["saving_usd"] is None or one["saving_usd"] <= 0:
            continue
        rules = [KINDS[kind] for kind in kinds]
        values = {"saving_usd": one["saving_usd"], "risk": max(SIZE[rule["risk"]] for rule in rules),
                  "effort": sum(SIZE[rule["effort"]] for rule in rules)}
        choices.append({"name": one["name"], "values": values})
    if len(choices) < 2:
        return None
    objectives = [{"field": "saving_usd", "better": "higher", "label": "Saving in US dollars"},
                  {"field": "risk", "better": "lower", "label": "Risk: 1 low, 2 medium, 3 high"},
                  {"field": "effort", "better": "lower", "label": "Effort: 1 low to 3 high for each step"}]
    arguments = {"options": choices, "objectives": objectives, "name": f"{stem}choice", "title": "Saving against risk"}
    try:
        result, ref, source = call("pareto", pareto, arguments, {"options": f"{len(choices)}, of what_if",
                                                                 "objectives": "saving, risk, effort"})
    except Exception as error:
        missing.append({"what": "the choice between saving, risk and effort", "why": str(error), "to_answer": "See the error."})
        return None
    chart_of = {"ref": ref, **{key: result.get(key) for key in ["file_id", "name", "media_type", "bytes", "alt"]}}
    return {"ref": ref, "call": source, "options": result["options"], "front": result["front"], "chart": chart_of}


def short_name(rung):
    name = " + ".join(step["kind"].replace("_", " ") for step in rung)
    return name[0].upper() + name[1:]


def until_unknown(answers):
    """The combinations up to the first whose cost is not known, since a plan takes no step over it."""
    known = []
    for answer in answers:
        if answer["saving_fraction"] is None:
            break
        known.append(answer)
    return known


def enough_alone(options, target):
    """How large a change would have to be to reach the target alone, where the saving grows in proportion."""
    found = []
    for field, kind in [("cached_share", "prompt_caching"), ("fraction", "shorter_prompts")]:
        for tried in [o for o in options if o["kind"] == kind and (o["saving_fraction"] or 0) > 0]:
            size = math.ceil(100 * tried["arguments"][field] * target / tried["saving_fraction"]) / 100
            if size <= 1:
                found.append({"kind": kind, field: size})
    return found


def choose(rungs, target):
    """The first rung that reaches the target; without a target the last one that keeps the models."""
    if target is None:
        keeps = [rung for rung in rungs if "other_model" not in [step["kind"] for step in rung["steps"]]]
        return {**(keeps or rungs)[-1], "reaches_target": None}
    for rung in rungs:
        if rung["saving_fraction"] >= target:
            return {**rung, "reaches_target": True}
    return {**rungs[-1], "reaches_target": False}


def price(file, named, more):
    """What the log costs, and which of the named models have a price."""
    cost, ref, _ = call("log_cost", log_cost, {"file": file, **more})
    found = []
    if named:
        asked, asked_ref, _ = call("log_cost", log_cost, {"file": file, "models": named, **more})
        found = [model["model"] for model in asked["on_models"]]
        for gap in asked["not_priced"]:
            missing.append({"what": f"what {gap['model']} would cost", "why": f"{gap['reason'].split('; it has')[0]} [{asked_ref}]",
                            "to_answer": "Attach a price list (TOML) that has it."})
    return {**cost, "ref": ref}, found


def optimize(file, wanted, price_list):
    name, log, target = file["name"], file["file"], wanted.get("target_fraction")
    slower_refused = "no_slower" in wanted["conditions"]
    more = {"price_list": price_list} if price_list else {}
    cost, named = price(log, wanted["models"], more)
    if len(named) == 1 and not cost["by_model"]:
        more["baseline_model"] = named[0]
    first, ref, source = call("what_if", what_if, {"file": log, "scenarios": changes(file), **more})
    baseline = {**first["baseline"], "ref": ref}
    options = [option(scenario, name, ref, source, slower_refused) for scenario in first["scenarios"]]
    note_measured(options, file)
    models = [{"kind": "other_model", "model": model} for model in other_models(cost, baseline, named)]
    bars, rungs, alone = first["options_for_chart"], [], []
    if models:
        second, ref, source = call("what_if", what_if, {"file": log, "scenarios": models, **more})
        options += [option(scenario, name, ref, source, slower_refused) for scenario in second["scenarios"]]
        bars = bars + second["options_for_chart"][1:]
    combined, steps = ladder(options)
    rungs += [{**o, "steps": [o["arguments"]]} for o in options if steps and o["arguments"] == steps[0]]
    tried = [{"kind": "combined", "label": short_name(rung), "steps": rung} for rung in combined]
    alone_at = len(tried)
    tried += enough_alone(options, target) if target else []
    more_at = len(tried)
    tried += [{"kind": "combined", "label": short_name(one), "steps": one} for one in other_combinations(steps, combined)]
    others = []
    if tried:
        third, ref, source = call("what_if", what_if, {"file": log, "scenarios": tried, **more})
        answers = [option(scenario, name, ref, source, False) for scenario in third["scenarios"]]
        together = until_unknown(answers[: len(combined)])
        rungs += [{**answer, "steps": answer["arguments"]["steps"]} for answer in together]
        alone = [answer for answer in answers[alone_at:more_at] if answer["saving_fraction"] is not None]
        others = [answer for answer in answers[:alone_at] + answers[more_at:] if answer["saving_fraction"] is not None]
        bars = bars + [bar for bar in third["options_for_chart"] if bar["label"] in [o["name"] for o in together]]
    chosen = choose(rungs, target) if rungs else None
    # Of many logs the steps of the run do not suffice for it.
    choice = weigh(options, others, stem_of(name)) if len(input["files"]) <= 2 else None
    kept = ["logged_cost_usd", "cost_usd", "by_model", "on_models", "unpriced_requests", "comparison", "ref"]
    return {"name": name, "baseline": baseline, "price_list": first["price_list"], "options": options, "rungs": rungs,
            "enough_alone": alone, "chosen": chosen, "choice": choice, "chart": draw(bars, name), "target_fraction": target,
            "cost": {key: cost[key] for key in kept},
            "assumptions": first["assumptions"] + [a for a in cost["assumptions"] if a not in first["assumptions"]]}


def stem_of(name):
    """The beginning of a chart's name: with several logs, which one it is about."""
    many = len(input["files"]) > 1
    return f"log-{[file['name'] for file in input['files']].index(name) + 1}-" if many else ""


def draw(bars, name):
    """The chart of the costs, or None and a note why there is none."""
    arguments = {"kind": "cost_by_option", "name": f"{stem_of(name)}cost-by-option", "options": bars}
    try:
        drawn, ref, _ = call("chart", chart, arguments, {"kind": "cost_by_option", "options": f"{len(bars)} costs"})
    except Exception as error:
        missing.append({"what": "the chart of costs", "why": str(error), "to_answer": "See the error."})
        return None
    return {"ref": ref, **{key: drawn.get(key) for key in ["file_id", "name", "media_type", "bytes", "alt"]}}


def optimization(files):
    results = []
    for file in files:
        think(f"Costing options for {file['name']}")
        try:
            results.append(optimize(file, input["wanted"], input.get("price_list")))
        except Exception as error:
            missing.append({"what": f"costed options for {file['name']}", "why": str(error),
                            "to_answer": "Bring a log with input and output tokens; attach a price list (TOML) if its models are not known."})
    return {"files": results, "missing": missing, "sources": sources}


optimization(input["files"])
