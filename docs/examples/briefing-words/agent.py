"""Says in one sentence what a question is about."""

said = ask_model(input["text"], system="Say in one sentence what this question is about.")
{"text": said.strip()}
