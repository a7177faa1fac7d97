"""Optimizer: leads its team from a question and a log to a report.

The report is always made, whatever failed before it: a step that fails is named in it, with its error.
"""

steps = {"triage": None, "data": None, "optimization": None, "actions": None, "reporting": None}
failed = []


def run(step, message, progress, given):
    """Lets one agent of the team work; its failure is noted and not raised."""
    think(message, progress=progress)
    try:
        steps[step] = agent(f"optimizer-{step}", given)
    except Exception as error:
        failed.append({"step": step, "error": str(error)})


def skip(step, why):
    think(f"No {step}: {why}.")


def call_numbers():
    """How often each tool was called, so that the next agent numbers its calls after these."""
    numbers = {}
    for done in steps.values():
        for source in (done or {}).get("sources", []):
            numbers[source["tool"]] = numbers.get(source["tool"], 0) + 1
    return numbers


def analyse(text, assume):
    run("triage", "Triage: what is asked, and which data is there", 0.05, {"text": text})
    triage = steps["triage"]
    usable = [{"name": file["name"], "file": file["id"], "unmapped": []} for file in files]
    if triage:
        usable = [look for look in triage["files"] if look["usable"]]
    if not usable:
        return skip("analysis", "there is no file that can be read as a log")
    run("data", "Data: profile and charts", 0.2, {"files": usable})
    data = steps["data"]
    if not data or not data["files"]:
        return skip("options", "there is no profile of a log")
    wanted = triage["wanted"] if triage else {"topics": [], "conditions": [], "models": [], "target_fraction": None}
    price_list = triage["price_list"] if triage else None
    profiles = [{"name": file["name"], "file": file["file"], "profile": file["profile"]} for file in data["files"]]
    run("optimization", "Optimization: what each change would save", 0.5,
        {"files": profiles, "wanted": wanted, "price_list": price_list, "assume": assume, "numbers": call_numbers()})
    optimization = steps["optimization"]
    if not optimization or not optimization["files"]:
        return skip("plan", "there are no costed options")
    run("actions", "Actions: an ordered plan", 0.8, {"files": optimization["files"], "profiles": profiles})


def missing_so_far():
    missing = []
    for done in steps.values():
        missing += (done or {}).get("missing", [])
    for one in failed:
        missing.append({"what": f"the step {one['step']}", "why": f"it failed: {one['error'].strip().split(chr(10))[-1]}",
                        "to_answer": "Run again; if it fails again, look at the script named in the error."})
    return missing


def bare_report(text, missing):
    """What can be said when even reporting failed."""
    summary = "The report could not be written. What the steps found is in this result, what failed is under missing."
    lines = ["# Optimizer report", "", summary, "", f"Question: {text}", "", "## What is missing", ""]
    lines += [f"- {one['what']}: {one['why']}" for one in missing]
    optimization, actions = steps["optimization"] or {}, steps["actions"] or {}
    options = [option for file in optimization.get("files", []) for option in file["options"]]
    data = {"rows": None, "first_ts": None, "last_ts": None, "input_tokens": None, "output_tokens": None,
            "percentiles": None, "bad_rows": None, "unmapped_columns": [], "files": (steps["data"] or {}).get("files", [])}
    return {"report_markdown": "\n".join(lines), "summary": summary, "data": data, "options": options,
            "actions": actions.get("actions", []), "missing": missing, "assumptions": [], "artifacts": [], "sources": []}


def optimizer(text, assume):
    try:
        analyse(text, assume)
    except Exception as error:
        failed.append({"step": "analysis", "error": f"{type(error).__name__}: {error}"})
    missing = missing_so_far()
    found = {step: steps[step] for step in ["triage", "data", "optimization", "actions"]}
    run("reporting", "Reporting", 0.9, {"text": text, "found": found, "missing": missing, "failed": failed})
    return steps["reporting"] or bare_report(text, missing_so_far())


optimizer(input["text"], input.get("assume") or {})
