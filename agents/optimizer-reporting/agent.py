"""Reporting: one report from whatever the other steps found. Each number names the tool call that it comes from."""

import re

FIELDS = {"model": "model", "cost": "price", "latency": "latency", "user": "user", "timestamp": "time",
          "cached_input_tokens": "cached tokens", "input_tokens": "input tokens", "output_tokens": "output tokens"}
# The steps whose tool calls are sources, in the order in which they ran.
STEPS = ["triage", "data", "analysis", "optimization", "actions"]
CONDITIONS = {"no_slower": "answers must not get slower", "no_worse": "answers must not get worse"}

JUDGED = "Effort, risk, speed and answers are judged by the kind of change, not measured."

found = input["found"]


def count(value):
    if value is None:
        return "not known"
    return f"{value:,}" if isinstance(value, int) or value % 1 else f"{int(value):,}"


def percent(fraction):
    return "not known" if fraction is None else f"{100 * fraction:.1f} %".replace(".0 %", " %")


def usd(amount):
    if amount is None:
        return "not known"
    return f"${amount:,.2f}" if abs(amount) >= 1 or amount == 0 else f"${amount:.4g}"


def when(time):
    return "not known" if time is None else time.replace("T", " ").replace("Z", " UTC")


def clean(text):
    """Text from files and errors, so that it cannot break a table."""
    text = "".join(c if c >= " " else " " for c in str(text))
    return text.replace("|", "\\|").replace("`", "'").replace("<", "&lt;")


def why(text):
    """The words of an error, without its code."""
    return re.sub(r"^[a-z_]+: ", "", str(text))


def table(head, rows):
    if not rows:
        return []
    line = lambda cells: "| " + " | ".join(clean(cell) for cell in cells) + " |"
    return [line(head), line(["---"] * len(head))] + [line(row) for row in rows] + [""]


def unique(items):
    return [item for at, item in enumerate(items) if item not in items[:at]]


def part(step, key, otherwise):
    return (found.get(step) or {}).get(key) or otherwise


def rests_on(costed):
    baseline = costed["baseline"]
    if baseline["assumed"]:
        return f"if all of it ran on {baseline['model']} (assumed: the log names no model)"
    return "on the models that the log names"


def summary_of_file(file, costed):
    p = file["profile"]
    tokens = [f"{count(p[key]['total'])} {name}" for key, name in
              [("input_tokens", "context (input) tokens"), ("output_tokens", "generated (output) tokens")] if p[key]]
    line = f"{count(p['requests'])} request{'' if p['requests'] == 1 else 's'}"
    line += f" from {when(p['first_ts'])} to {when(p['last_ts'])}" if p["first_ts"] else " without a time"
    line += f", {' and '.join(tokens)} [{file['ref']}]" if tokens else f", no tokens [{file['ref']}]"
    if costed:
        logged = costed["cost"]["logged_cost_usd"]
        line += f"; {usd(logged)} as logged [{costed['cost']['ref']}]" if logged is not None else ""
        line += f"; {usd(costed['baseline']['cost_usd'])} by the price list of {costed['price_list']['date']} "
        line += f"{rests_on(costed)} [{costed['baseline']['ref']}]"
    return line + "."


def deeper(name):
    """What analysis found about a log, if it looked into it."""
    return next(iter([one for one in part("analysis", "files", []) if one["name"] == name]), None)


def contents(costed, rung):
    """The names of the options that a rung is made of."""
    names = [o["name"] for step in rung["steps"] for o in costed["options"] if o["arguments"] == step]
    return " + ".join(names)


def verdict(costed):
    chosen, target = costed["chosen"], costed["target_fraction"]
    if not chosen:
        return "No option saves enough to plan a step."
    names, saving = contents(costed, chosen), f"{percent(chosen['saving_fraction'])} [{chosen['source_refs'][0]}]"
    if target is None:
        known = "The question names no target." if found.get("triage") else "The question was not read."
        return f"{known} On the stated assumptions, {names} would save {saving}."
    if chosen["reaches_target"]:
        line = f"The target of {percent(target)} can be reached, on the stated assumptions, by {names}: {saving}."
    else:
        line = f"The target of {percent(target)} is not reached: on the stated assumptions {names} would save {saving}."
    for alone in [option for option in costed["enough_alone"] if option["name"] != names][:1]:
        line += f" Enough alone: {alone['name']}, {percent(alone['saving_fraction'])} [{alone['source_refs'][0]}]."
    return line


def summary(profiles, costs, missing):
    lines, topics = [], part("triage", "wanted", {"topics": []})["topics"]
    for file in profiles:
        costed = next(iter([c for c in costs if c["name"] == file["name"]]), None)
        name = f"{clean(file['name'])}: " if len(profiles) > 1 else ""
        lines.append(name + summary_of_file(file, costed))
        answers = {**file["answers"], **(deeper(file["name"]) or {"answers": {}})["answers"]}
        lines += [name + clean(said) for topic, said in answers.items() if topic in topics or topic == "cost" and not topics
                  or topic == "forecast" and "growth" in topics]
        lines += [name + verdict(costed)] if costed and ("cost" in topics or not topics) else []
    if not profiles:
        lines.append("There is no log that could be read, so this report has no figures. What to bring stands below.")
    open_points = unique([clean(one["what"]) for one in missing])
    lines.append(f"Not answered: {'; '.join(open_points)}." if open_points else "All that was asked could be answered.")
    return "\n".join(lines)


def executive(costed, many):
    """The rows of the executive summary for one log: what it costs, why, what can be saved, how, and at which risk."""
    name = f"{clean(costed['name'])}: " if many else ""
    baseline, chosen = costed["baseline"], costed["chosen"]
    rows = [[f"{name}Cost of this log", f"{usd(baseline['cost_usd'])}, {rests_on(costed)}", f"[{baseline['ref']}]"]]
    driver = (deeper(costed["name"]) or {"answers": {}})["answers"].get("cost")
    if driver:
        words, _, ref = driver.partition(": ")[2].rpartition(" [")
        rows.append([f"{name}Largest driver", words, f"[{ref.rstrip('.')}"])
    if chosen:
        saving = f"{usd(chosen['saving_usd'])} ({percent(chosen['saving_fraction'])}) by {contents(costed, chosen)}"
        rows.append([f"{name}Saving of the plan", saving, f"[{chosen['source_refs'][0]}]"])
    steps = [step for step in part("actions", "actions", []) if step["file"] == costed["name"]]
    saving_steps = [step for step in steps if step["saving_usd"] is not None]
    if saving_steps:
        first = saving_steps[0]
        refs = " ".join(f"[{ref}]" for ref in first["source_refs"])
        rows.append([f"{name}First step that saves", f"{first['title']}: {usd(first['saving_usd'])}, effort {first['effort']}, "
                     f"risk {first['risk']}", refs])
        worst = max(saving_steps, key=lambda step: ["none", "low", "medium", "high"].index(step["risk"]))
        rows.append([f"{name}Highest risk in the plan", f"{worst['risk']}: {worst['title']}", "-"])
    return rows


def executive_section(costs, missing):
    rows = []
    for costed in costs:
        rows += executive(costed, len(costs) > 1)
    open_points = unique([one["what"] for one in missing])
    rows.append(["Not known", "; ".join(open_points) or "nothing that was asked for", "-"])
    return ["## Executive summary", ""] + table(["What", "Finding", "Source"], rows) if costs else []


def asked():
    wanted = part("triage", "wanted", None)
    quote = [f"> {line}" for line in input["text"].strip().split("\n")[:20]]
    if not wanted:
        return quote + ["", "The question was not read, since triage failed.", ""]
    target, words = wanted["target_fraction"], wanted["target_words"]
    rows = [f"- Topics: {', '.join(wanted['topics']) or 'none that this team knows, so it gives its standard report'}",
            f"- Target: save {percent(target)} of the cost (from “{words}”)" if target else "- Target: none for the cost",
            f"- Conditions: {', '.join(CONDITIONS[c] for c in wanted['conditions']) or 'none'}"]
    for look in part("triage", "files", []):
        state = f"{count(look['rows_examined'])} rows looked at [{look['ref']}]" if "ref" in look else clean(why(look["reason"]))
        rows.append(f"- File {clean(look['name'])}: {look.get('kind_title', 'not readable')}, {state}")
    level = f"{found['triage']['data_sufficiency']}: {found['triage']['why']}"
    return quote + [""] + rows + [f"- Data: {level}", "", "(Read by keywords in English and German; the report is in "
                                                          "English.)", ""]


def columns(look):
    """Which columns there are not, and which were not understood."""
    lines = []
    gaps = [FIELDS[gap["field"]] for gap in look["missing"] if "no column" in gap["reason"]]
    if gaps:
        lines.append(f"The log has no column for {', '.join(gaps)} [{look['ref']}]; what is taken instead stands under "
                     "“What was assumed”.")
    for gap in [gap for gap in look["missing"] if "no column" not in gap["reason"]]:
        lines.append(f"{FIELDS[gap['field']]}: {clean(gap['reason'])} [{look['ref']}].")
    if look["unmapped"]:
        names = ", ".join(clean(column["header"]) for column in look["unmapped"])
        lines.append(f"Columns that were not understood and not used: {names} [{look['ref']}].")
    return lines


def data_section(file):
    lines = [f"### {clean(file['name'])}", ""]
    for look in [look for look in part("triage", "files", []) if look["name"] == file["name"]]:
        lines += columns(look) + [""]
    for one in file["tables"]:
        lines += [f"**{one['title']}**", ""] + table(one["head"], one["rows"])
    for chart in file["charts"]:
        lines += [image(chart), ""]
    return lines


def analysis_section(found):
    lines = [f"### {clean(found['name'])}", ""]
    for one in found["tables"]:
        lines += [f"**{one['title']}**", ""] + table(one["head"], one["rows"])
    for chart in found["charts"]:
        lines += [image(chart), ""]
    return lines


def choice_table(costed):
    """The options that no other one beats, over saving, risk and effort."""
    choice = costed["choice"]
    if not choice:
        return []
    ref = f"[{choice['ref']}]"
    rows = [[one["number"], one["name"], usd(one["values"]["saving_usd"]), one["values"]["risk"], one["values"]["effort"], ref]
            for one in sorted(choice["options"], key=lambda one: -one["values"]["saving_usd"]) if one["pareto"]]
    lines = [f"**Worth choosing from: {len(rows)} of {len(choice['options'])} options and combinations**", "",
             "Each other one is beaten by one of these in saving, risk and effort together.", ""]
    return lines + table(["#", "Option", "Saves", "Risk (1 low, 3 high)", "Effort (sum of 1 to 3)", "Source"], rows) + [
        image(choice["chart"]), ""]


def data_request_section():
    text = part("data_helper", "user_instructions", None)
    return ["## What would tell more", "", text, ""] if text else []


def image(chart):
    return f"![{chart['name'][:-4].replace('-', ' ')}]({chart['name']}) [{chart['ref']}]"


def options_section(costed):
    baseline, target, prices = costed["baseline"], costed["target_fraction"], costed["price_list"]
    refs = f"[{baseline['ref']}]"
    lines = [f"### {clean(costed['name'])}", "",
             f"Cost now: {usd(baseline['cost_usd'])} for {count(baseline['requests'])} requests, {rests_on(costed)} {refs}. "
             f"Prices: {prices['name']} of {prices['date']} ({prices['origin']}).", ""]
    rows = [[number, o["name"] + (" (left out)" if o["excluded"] else ""), percent(o["saving_fraction"]), usd(o["cost_usd"]), o["effort"], o["risk"], o["speed"],
             o["quality"], f"[{o['source_refs'][0]}]"] for number, o in enumerate(costed["options"], 1)]
    lines += table(["#", "Option", "Saves", "Cost then", "Effort", "Risk", "Speed", "Answers", "Source"], rows)
    lines += [JUDGED, "", "What each rests on, and how it is computed:", ""]
    for number, o in enumerate(costed["options"], 1):
        excluded = f" **Left out: {o['excluded']}.**" if o["excluded"] else ""
        excluded += f" **No cost: {clean(o['reason'])}.**" if o["reason"] else ""
        lines.append(f"{number}. {'; '.join(clean(a) for a in o['assumptions'])}.{excluded} `{o['formula']}`")
    named = [(contents(costed, o), o) for o in costed["rungs"][1:]]
    named += [(f"{o['name']}, nothing else", o) for o in costed["enough_alone"]]
    together = [[name, percent(o["saving_fraction"]), usd(o["cost_usd"]), reaches(o, target),
                 f"[{o['source_refs'][0]}]"] for name, o in named]
    lines += ["", "**Together, and what would be enough alone**", ""] if together else [""]
    lines += table(["What", "Saves", "Cost then", "Reaches the target", "Source"], together)
    return lines + choice_table(costed) + models_table(costed) + ([image(costed["chart"]), ""] if costed["chart"] else [])


def reaches(option, target):
    return "no target" if target is None else "yes" if option["saving_fraction"] >= target else "no"


def models_table(costed):
    cost, ref = costed["cost"], f"[{costed['cost']['ref']}]"
    now = [[m["model"], count(m["requests"]), usd(m["cost_usd"]), ref] for m in (cost["by_model"] or [])[:10]]
    then = [[m["model"], usd(m["cost_usd"]), usd(m["per_1000_requests_usd"]), ref] for m in cost["on_models"]]
    lines = ["**By model, at list prices**", ""] + table(["Model", "Requests", "Cost", "Source"], now) if now else []
    return lines + ["**The same traffic on other models** (token counts taken as they are)", ""] + table(
        ["Model", "Cost", "Per 1,000 requests", "Source"], then)


def plan_section():
    plan = part("actions", "table", {"head": [], "rows": []})
    many = len(part("optimization", "files", [])) > 1
    lines = table(plan["head"], plan["rows"]) or ["There is no plan: see what is missing.", ""]
    if plan["rows"]:
        lines += ["“Adds” is what a step saves on top of those before it. No step has an owner or a date yet.", ""]
    left = [f"- {(o['file'] + ': ') if many else ''}{o['name']}: {o['why']}" for o in part("actions", "not_planned", [])]
    return lines + (["Not in the plan:", ""] + [clean(line) for line in left] + [""] if left else [])


def assumptions(profiles, costs):
    known = [a.replace("on_models takes", "the table of other models takes") for costed in costs for a in costed["assumptions"]]
    tried = [o["name"] for costed in costs for o in costed["options"] if o["kind"] not in ["other_model", "capped_output"]]
    if tried:
        known.append(f"the sizes of {', '.join(unique(tried))} are tried values, not findings: the input field `assume` "
                     "takes measured ones")
    known += [a for file in profiles for a in file["profile"]["assumptions"]]
    known += [a for study in part("analysis", "studies", []) for a in study["result"].get("assumptions", [])]
    return unique(known) + (["the logs are looked at one by one and not joined"] if len(profiles) > 1 else [])


def all_sources():
    return [source for step in STEPS for source in part(step, "sources", [])]


def sources_section():
    rows = [[f"[{s['ref']}]", s["agent"], ", ".join(f"{k}: {v}" for k, v in s["arguments"].items())[:120],
             s.get("call") or "-", why(s["error"]) if "error" in s else "done"] for s in all_sources()]
    return table(["Source", "Agent", "Arguments", "Tool call", "Outcome"], rows) or ["No tool was called.", ""]


def no_data():
    """What is known when no log has a profile: from the first look, if there was one."""
    looks = [look for look in part("triage", "files", []) if "ref" in look]
    unmapped = [column["header"] for look in looks for column in look["unmapped"]]
    return {"rows": None, "first_ts": None, "last_ts": None, "input_tokens": None, "output_tokens": None, "percentiles": None,
            "bad_rows": looks[0]["bad_rows"]["count"] if looks else None, "unmapped_columns": unmapped, "files": []}


def report():
    profiles, costs, missing = part("data", "files", []), part("optimization", "files", []), input["missing"]
    short, assumed = summary(profiles, costs, missing), assumptions(profiles, costs)
    lines = ["# Optimizer report", "", short.replace("\n", "\n\n"), ""] + executive_section(costs, missing)
    lines += ["## What was asked", ""] + asked()
    lines += ["## What the data says", ""] + ([] if profiles else ["No file could be read as a log.", ""])
    for file in profiles:
        lines += data_section(file)
    deep = part("analysis", "files", [])
    lines += ["## Analysis", ""] if deep else []
    for one in deep:
        lines += analysis_section(one)
    lines += ["## Options", ""] + ([] if costs else ["No option could be costed.", ""])
    for costed in costs:
        lines += options_section(costed)
    lines += ["## Plan", ""] + plan_section() + ["## What is missing", ""]
    rows = [[m["what"], why(m["why"]), m["to_answer"]] for m in missing]
    lines += table(["What", "Why", "What to do"], rows) or ["Nothing that was asked for.", ""]
    lines += data_request_section()
    lines += ["## What was assumed", ""] + ([f"- {clean(a)}" for a in assumed] or ["Nothing."]) + [""]
    lines += ["## Sources", ""] + sources_section()
    each = [file["short"] for file in profiles]
    charts = [chart for file in profiles + deep for chart in file["charts"]] + [c["chart"] for c in costs if c["chart"]]
    charts += [c["choice"]["chart"] for c in costs if c["choice"]]
    return {"report_markdown": "\n".join(lines), "summary": short, "data": {**each[0], "files": each} if each else no_data(),
            "options": [option for costed in costs for option in costed["options"]],
            "actions": part("actions", "actions", []), "missing": missing, "analysis": part("analysis", "studies", []),
            "choice": [{"file": c["name"], **c["choice"]} for c in costs if c["choice"]],
            "data_request": found.get("data_helper"), "assumptions": assumed, "artifacts": charts,
            "sources": all_sources()}


report()
