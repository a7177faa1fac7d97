"""Lets many clerks work at once, so that there is much to tell."""

done = gather(*[call(agent, "clerk", "Look at the clock") for clerk in range(14)])
{"report_markdown": str(sum([one["looks"] for one in done])) + " looks at the clock"}
