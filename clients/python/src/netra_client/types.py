"""Types of the contract."""

from __future__ import annotations

from typing import Any, Dict

Event = Dict[str, Any]
