"""JSON objects that carry a checksum of themselves, so that a letter that changed is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SEAL = "sha256"  # the entry


def seal_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of all entries but the seal, in whatever order they stand."""
    rest = {name: value for name, value in content.items() if name != SEAL}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def sealed_bytes(content: Mapping[str, Any]) -> bytes:
    """The object as a file, with its seal as the last entry."""
    rest = {name: value for name, value in content.items() if name != SEAL}
    return (json.dumps({**rest, SEAL: seal_of(rest)}, indent=1) + "\n").encode()
