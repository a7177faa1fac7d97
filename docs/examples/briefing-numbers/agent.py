"""Counts the requests of logs. A log that cannot be read fails it, and `briefing` says so."""

profiles = gather(*[call(log_profile, file=name) for name in input["names"]])
total = sum(profile["requests"] for profile in profiles)
{"text": f"{total:,} requests in {len(profiles)} logs."}
