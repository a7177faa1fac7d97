"""Lets two agents work at once, and goes on when one of them fails."""

parts = {
    "Numbers": call(agent, "briefing-numbers", {"names": [file["name"] for file in files]}),
    "Words": call(agent, "briefing-words", input["text"]),
}
think("Asking " + " and ".join(parts).lower())
found = dict(zip(parts, gather(*parts.values(), return_errors=True)))

lines, failed = [], []
for title, answer in found.items():
    if "error" in answer:
        failed.append(title)
        lines.append(f"## {title}\n\nNot known: {answer['error']['message']}")
    else:
        lines.append(f"## {title}\n\n{answer['text']}")

{"report_markdown": "\n\n".join(lines), "failed": failed}
