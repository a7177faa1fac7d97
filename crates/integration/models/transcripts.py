"""Takes the recorded answers out of the makers' own SDKs: `transcripts.py FOLDER-OF-SDISTS OUT`.

What stands in files is copied. What stands in the tests' source as text or as a literal is read as Python reads it; no
code of theirs runs.
"""

import ast
import json
import pathlib
import sys
import tarfile

sources, out = (pathlib.Path(argument) for argument in sys.argv[1:])


def tests(name):
    """The files below tests/ of a package, by path."""
    (archive,) = sources.glob(f"{name}-*.tar.gz")
    with tarfile.open(archive) as packed:
        for member in packed:
            path = pathlib.PurePosixPath(member.name)
            if member.isfile() and "tests" in path.parts:
                yield path, packed.extractfile(member).read()


def literals(source):
    """Every text and every dictionary that stands in Python source as a literal."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Constant, ast.Dict)):
            try:
                yield ast.literal_eval(node)
            except ValueError:
                pass


def as_object(value):
    if isinstance(value, (str, bytes)):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return value if isinstance(value, dict) else None


def keep(kind, name, content):
    path = out / kind / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def documents(package, kind, counts):
    """Answers that the source of the tests has as literals, each once."""
    found = []
    for path, content in tests(package):
        if path.suffix == ".py":
            for value in literals(content):
                answer = as_object(value)
                if answer is not None and counts(answer) and answer not in found:
                    found.append(answer)
    for number, answer in enumerate(found):
        keep(kind, f"{number:03}.json", json.dumps(answer).encode())


for path, content in tests("anthropic"):
    if "fixtures" in path.parts and path.suffix in (".txt", ".sse"):
        keep("anthropic", path.with_suffix(".sse").name, content)
    elif "__inline_snapshot__" in path.parts and path.suffix == ".json":
        for number, call in enumerate(json.loads(content)):
            answer = call["response"].get("body") if isinstance(call, dict) and "response" in call else None
            if isinstance(answer, dict) and answer.get("type") == "message":
                keep("anthropic", f"{path.stem}-{number}.json", json.dumps(answer).encode())

documents("openai", "openai", lambda answer: answer.get("object") == "chat.completion")
documents("google_genai", "gemini", lambda answer: "candidates" in answer)
