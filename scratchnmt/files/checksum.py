"""JSON objects that carry a checksum of themselves, so that a letter that changed is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

CHECKSUM = "sha256"  # the entry


def checksum_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of all entries but the checksum, in whatever order they stand."""
    rest = {name: value for name, value in content.items() if name != CHECKSUM}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def bytes_with_checksum(content: Mapping[str, Any]) -> bytes:
    """The object as a file, with its checksum as the last entry."""
    rest = {name: value for name, value in content.items() if name != CHECKSUM}
    return (json.dumps({**rest, CHECKSUM: checksum_of(rest)}, indent=1) + "\n").encode()
