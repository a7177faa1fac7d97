"""Tells the time, and how often it was asked in this thread.

The value of the last expression is the result; its `report_markdown` is the message in the thread.
`netra agents stubs` writes the types of all that is set here, for your editor.
"""


def asked():
    state["asked"] = state.get("asked", 0) + 1
    return state["asked"]


think("looking at the clock", progress=0.5)

# A tool. One that fails raises RuntimeError, which you may catch.
clock = time_now()

# Several at once:
# first, second = gather(call(time_now), call(time_now))

number = asked()
{
    "report_markdown": f"You said: {input['text']}\n\nIt is {clock['now']}. You have asked {number} times.",
    "asked": number,
}
