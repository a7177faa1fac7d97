"""The examples in Python of the API guide, as docs/api-guide.md has them."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest
from server import Server

PAGE = pathlib.Path(__file__).parents[3] / "docs/api-guide.md"
EXAMPLES = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_the_guide_has_examples() -> None:
    assert len(EXAMPLES) == PAGE.read_text().count("```python") > 0


@pytest.mark.parametrize(("code", "says"), EXAMPLES)
def test_an_example_says_what_the_guide_says(shared: Server, user: str, code: str, says: str) -> None:
    environment = {**os.environ, "NETRA_URL": shared.url, "NETRA_TOKEN": shared.token(user)}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (run.stdout, run.stderr) == (says, "")
