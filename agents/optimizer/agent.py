"""Optimizer: leads its team from a question and a log to a report.

Triage says which steps follow, by how much the data tells. The report is always made, whatever failed before it: a step
that fails is named in it, with its error. A question without a file, in a thread that has a report, is answered from that.
"""

# What the team can do in the 50 steps that a run has by default: those of its agents, those of the explanation, those of
# each log (less where there are more than two), and those that the analysis of a log takes beyond that.
MOST_STEPS, FIXED_STEPS, STEPS_OF_WORDS, STEPS_PER_LOG, STEPS_OF_MANY, STEPS_OF_ANALYSIS = 50, 10, 2, 11, 8, 8
# Of more logs than these there is no explanation.
MOST_EXPLAINED = 3

steps = {"triage": None, "data_helper": None, "data": None, "analysis": None, "optimization": None, "actions": None,
         "reporting": None}
failed = []


def run(step, message, progress, given):
    """Lets one agent of the team work; its failure is noted and not raised."""
    think(message, progress=progress)
    try:
        steps[step] = agent(f"optimizer-{step.replace('_', '-')}", given)
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


def plan(triage):
    """The steps that follow triage, and the files they are about. When triage failed, nothing is known of the files."""
    if not triage:
        usable = [{"name": file["name"], "file": file["id"], "unmapped": []} for file in files]
        return ["data_helper"] + (["data"] if usable else []), usable
    return triage["workflow"], [look for look in triage["files"] if look["usable"]]


def analyse(text, assume):
    run("triage", "Triage: what is asked, and which data is there", 0.05, {"text": text})
    triage = steps["triage"]
    workflow, usable = plan(triage)
    if "data_helper" in workflow:
        run("data_helper", "Data helper: what is missing, and how to get it", 0.15, {"text": text, "triage": triage})
    if "data" not in workflow:
        return skip("analysis", "there is no file that can be read as a log")
    run("data", "Data: profile and charts", 0.2, {"files": usable})
    data = steps["data"]
    if not data or not data["files"]:
        return skip("options", "there is no profile of a log")
    profiles = [{"name": file["name"], "file": file["file"], "profile": file["profile"]} for file in data["files"]]
    wanted = triage["wanted"] if triage else {"topics": [], "conditions": [], "models": [], "target_fraction": None}
    common = {"wanted": wanted, "price_list": triage["price_list"] if triage else None, "assume": assume}
    if "analysis" in workflow:
        look_deeper(profiles, common)
    if "optimization" not in workflow:
        return skip("options", "the data does not tell what they would save")
    measured = {file["name"]: file["repeats"] for file in (steps["analysis"] or {"files": []})["files"]}
    run("optimization", "Optimization: what each change would save", 0.6,
        {**common, "files": [{**one, "repeats": measured.get(one["name"])} for one in profiles], "numbers": call_numbers()})
    optimization = steps["optimization"]
    if not optimization or not optimization["files"]:
        return skip("plan", "there are no costed options")
    run("actions", "Actions: an ordered plan", 0.8, {"files": optimization["files"], "profiles": profiles, "wanted": wanted,
                                                        "studies": (steps["analysis"] or {"studies": []})["studies"]})


def look_deeper(profiles, common):
    """The analysis of each log, as deep as the run's steps allow."""
    logs = len(profiles)
    left = MOST_STEPS - FIXED_STEPS - (STEPS_OF_MANY if logs > 2 else STEPS_PER_LOG) * logs
    calls_per_log = (left - (STEPS_OF_WORDS if logs <= MOST_EXPLAINED else 0)) // logs
    depth = {"calls_per_log": calls_per_log} if calls_per_log < STEPS_OF_ANALYSIS else {}
    run("analysis", "Analysis: what makes the cost and the waiting, and what is to come", 0.4,
        {**common, **depth, "files": profiles, "numbers": call_numbers(), "many": logs > 1})


def missing_so_far():
    missing = []
    for done in steps.values():
        missing += (done or {}).get("missing", [])
    for one in failed:
        name = one["step"].replace("_", " ")
        missing.append({"what": f"the step {name}", "why": f"it failed: {one['error'].strip().split(chr(10))[-1]}",
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


def explained(report, text):
    """The report with the words of a model, where one is configured and says something."""
    try:
        said = agent("optimizer-explain", {"text": text, "report": report["report_markdown"], "follow_up": False})
    except Exception as error:
        why = str(error).strip().split(chr(10))[-1]
        gap = {"what": "the model's explanation", "why": why, "to_answer": "Read the report itself."}
        return {**report, "missing": report["missing"] + [gap]}
    if not said["text"]:
        return {**report, "missing": report["missing"] + said["missing"]}
    head, _, rest = report["report_markdown"].partition("\n## ")
    words = f"{head}\n## In plain words\n\n{said['text']}\n\n{BY_MODEL}\n\n## {rest}"
    return {**report, "report_markdown": words, "explanation": said["text"], "missing": report["missing"] + said["missing"]}


BY_MODEL = "(Written by a model from this report; its numbers were held against it, and nothing else was.)"


def report_on(text, assume):
    try:
        analyse(text, assume)
    except Exception as error:
        failed.append({"step": "flow", "error": f"{type(error).__name__}: {error}"})
    missing = missing_so_far()
    found = {step: steps[step] for step in steps if step != "reporting"}
    run("reporting", "Reporting", 0.9, {"text": text, "found": found, "missing": missing, "failed": failed})
    report = steps["reporting"] or bare_report(text, missing_so_far())
    triage = steps["triage"] or {"data_sufficiency": "unknown"}
    ran = [step for step in steps if steps[step]]
    report = {**report, "workflow": {"data_sufficiency": triage["data_sufficiency"], "steps": ran,
                                     "failed": [one["step"] for one in failed]}}
    logs = len(report["data"]["files"])
    return explained(report, text) if report["data"]["rows"] is not None and logs <= MOST_EXPLAINED else report


def earlier_report():
    """The newest report of the team in this thread, if there is one with figures."""
    try:
        found = earlier_result()
    except Exception as error:
        return None
    result = found["result"] or {}
    base = result.get("follow_up_of") or {"run_id": found["run_id"], "report_markdown": result.get("report_markdown")}
    rows = (result.get("data") or {}).get("rows")
    return {"result": result, "base": base} if base["report_markdown"] and rows is not None else None


def answer(text, earlier):
    """A question about the report of this thread. Its numbers stay those of the report, with their sources."""
    think("Answering from the report of this thread", progress=0.3)
    result, base = earlier["result"], earlier["base"]
    said = agent("optimizer-explain", {"text": text, "report": base["report_markdown"], "follow_up": True})
    missing = said["missing"]
    words = said["text"]
    if not words:
        words = "The report of this thread says nothing on this. Attach the log again for a new report."
        missing = missing + [{"what": text[:200], "why": "the report has no passage with these words",
                              "to_answer": "Ask with other words, or attach the log and ask for a new report."}]
    note = BY_MODEL.replace("this report", "the report of this thread") if said["by_model"] else (
        "(From the report of this thread, word for word. For new sums attach the log again.)")
    return {**result, "report_markdown": f"{words}\n\n{note}", "summary": words, "missing": missing, "artifacts": [],
            "follow_up_of": base, "explanation": words if said["by_model"] else None}


def optimizer(text, assume):
    earlier = None if files else earlier_report()
    return answer(text, earlier) if earlier else report_on(text, assume)


optimizer(input["text"], input.get("assume") or {})
