"""Sends one letter, and says what became of it."""

think("Writing the letter", progress=0.5)
try:
    sent = post__send(to="ada@example.com", text=input["text"])
    report = "Sent: " + str(sent)
except RuntimeError as error:
    report = "Not sent: " + str(error)
{"report_markdown": report}
