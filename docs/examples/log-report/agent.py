"""Counts and prices each attached log, and says what has changed since the last time in this thread."""


def read_all():
    """Both tools for all files at once; a file that cannot be read is a line of the report."""
    names = [file["name"] for file in files]
    calls = [call(tool, file=name) for name in names for tool in (log_profile, log_cost)]
    answers = gather(*calls, return_errors=True)
    return [row(name, answers[2 * n], answers[2 * n + 1]) for n, name in enumerate(names)]


def row(name, profile, cost):
    for answer in (profile, cost):
        if "error" in answer:
            return {"name": name, "problem": answer["error"]["message"]}
    return {"name": name, "requests": profile["requests"], "usd": cost["cost_usd"]}


def line(log):
    if "problem" in log:
        return f"- {log['name']}: {log['problem']}"
    if log["usd"] is None:
        return f"- {log['name']}: {log['requests']:,} requests, no price known"
    return f"- {log['name']}: {log['requests']:,} requests, {log['usd']:,.2f} USD"


think(f"Reading {len(files)} logs", progress=0.1)
logs = read_all()
total = sum(log["usd"] for log in logs if log.get("usd") is not None)

lines = [line(log) for log in logs] + ["", f"Together {total:,.2f} USD."]
if "total_usd" in state:
    lines.append(f"That is {total - state['total_usd']:+,.2f} USD against the last time.")
state["total_usd"] = total

{"report_markdown": "\n".join(lines), "logs": logs, "total_usd": total}
