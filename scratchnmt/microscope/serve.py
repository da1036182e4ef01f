"""The page from a local server, on which numbers are computed when they are asked for.

It listens on 127.0.0.1 alone.  The address of the page holds a token that nobody else knows; a request without it, or
with another host's name (as a page of another site would send it), gets 403 and nothing else.  There are four things
to ask for: the page, a number with its formula and its complex-step derivative, another sentence, and the loss after
one weight has been moved.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from ..errors import InputError, MachineError, sentence
from ..files.reading import parse_json
from ..gradcheck.report import rms
from .api import Microscope
from .formulas import Term, terms
from .numeric import Cell, can_be_moved, derivatives
from .page import html
from .trace import Sentence

HOST = "127.0.0.1"
MOST = 10  # terms of a sum that are told one by one
LARGEST = 100_000  # bytes of a request

Make = Callable[[str, "str | None"], Microscope]  # of another sentence


class Server(ThreadingHTTPServer):
    """Serves `microscope`; `make` makes one of another sentence.  port 0: any that is free.

    Raises MachineError if the port is in use.
    """

    daemon_threads = True

    def __init__(self, microscope: Microscope, make: Make, port: int = 0):
        self.microscope, self.make, self.token, self.lock = microscope, make, secrets.token_urlsafe(16), Lock()
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise MachineError(f"port {port} of {HOST} cannot be used ({error.strerror}): choose another with --port, "
                               "or --port 0 for one that is free") from error

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_port}/?token={self.token}"

    def page(self) -> str:
        return html({**self.microscope.data, "serve": {"token": self.token}})

    def number(self, query: Mapping[str, str]) -> dict[str, Any]:
        """A cell's value and gradient, the terms of one of them, and its complex-step derivative."""
        side = query.get("side", "value")
        if side not in ("value", "gradient"):
            raise InputError(f"side is {side!r}, expected value or gradient")
        cell = _cell(self.microscope, query)
        trace = self.microscope.trace
        answer: dict[str, Any] = {"value": None, "gradient": None, "terms": self._terms(cell, side),
                                  "numeric": None, "error": None}
        for name in ("value", "gradient"):
            if getattr(trace.table[cell.id], name):
                answer[name] = float(self._array(cell, name)[cell.row, cell.unit])
        if can_be_moved(trace, cell.id):
            (numeric,) = derivatives(trace.model, trace.batch, [cell], trace.seed)
            gradient = trace.gradient(cell.id, cell.b)
            answer["numeric"] = numeric
            answer["error"] = abs(gradient[cell.row, cell.unit] - numeric) / (rms(gradient) or 1)
        return answer

    def _array(self, cell: Cell, side: str) -> np.ndarray:
        trace = self.microscope.trace
        return trace.value(cell.id, cell.b) if side == "value" else trace.gradient(cell.id, cell.b)

    def _terms(self, cell: Cell, side: str) -> list[dict[str, Any]]:
        quantity = self.microscope.trace.table[cell.id]
        this = getattr(quantity, side)
        if this is None:
            return []
        letters = dict(zip(quantity.letters, (cell.row, cell.unit), strict=True))
        numbers = Sentence(self.microscope.trace, cell.b)
        labels = {path: found.label for path, found in self.microscope.trace.paths(cell.id, cell.b).items()
                  } if this.paths else {}
        formulas = [("", this.formula), *((label, this.paths.get(path, "")) for path, label in labels.items())]
        return [_told(term, label) for label, formula in formulas if formula
                for term in terms(formula, letters, numbers)]

    def another(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """A page of another sentence takes the place of this one."""
        src, tgt = asked.get("src"), asked.get("tgt") or None
        if not isinstance(src, str) or not isinstance(tgt, str | None):
            raise InputError("expected the texts src and, if given, tgt")
        self.microscope = self.make(src, tgt)
        return {"ok": True}

    def moved(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The loss where one weight has another value; the model stays as it is."""
        name, index, value = str(asked.get("name")), asked.get("index"), asked.get("value")
        trace = self.microscope.trace
        params = trace.model.params
        if name not in params:
            raise InputError(f"{name!r} is no weight of this model")
        shape = params[name].shape
        if not (isinstance(index, list) and len(index) == len(shape) and all(
                isinstance(i, int) and 0 <= i < size for i, size in zip(index, shape, strict=True))):
            raise InputError(f"index is {index!r}, expected {len(shape)} whole numbers below {shape}")
        if not isinstance(value, (int, float)) or not np.isfinite(value):
            raise InputError(f"value is {value!r}, expected a finite number")
        changed = dict(params.items()) | {name: params[name].copy()}
        changed[name][tuple(index)] = value
        rng = None if trace.seed is None else np.random.default_rng(trace.seed)
        loss, _ = trace.model.with_params(changed).forward(*trace.batch, rng=rng)
        return {"loss": float(loss), "before": float(np.real(trace.loss))}


def _cell(microscope: Microscope, query: Mapping[str, str]) -> Cell:
    """The cell that a request names; InputError if there is none."""
    id, trace = query.get("q", ""), microscope.trace
    if id not in trace.table:
        raise InputError(f"there is no quantity {id!r}")
    try:
        b, row, unit = (int(query.get(name, "")) for name in ("b", "row", "unit"))
    except ValueError:
        raise InputError("expected whole numbers b, row and unit") from None
    if not 0 <= b < len(microscope.words):
        raise InputError(f"there is no sentence {b}")
    quantity = trace.table[id]
    rows, columns = (trace.value if quantity.value else trace.gradient)(id, b).shape
    if not (0 <= row < rows and 0 <= unit < columns):
        raise InputError(f"{id} has no number in row {row} and column {unit}")
    return Cell(id, b, row, unit)


def _told(term: Term, label: str) -> dict[str, Any]:
    """A term with its largest parts: "k = 3", the factors with their numbers, the product."""
    largest = sorted(term.values, key=lambda part: -abs(part[2]))
    shown, rest = largest[:MOST], largest[MOST:]
    return {"label": label or term.text, "terms": [
        [place, " * ".join(f"{text} ({number:.6g})" for text, number in factors), product]
        for place, factors, product in shown], "rest": [len(rest), sum(product for _, _, product in rest)],
        "total": term.total}


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = "scratchnmt", ""
    timeout = 30  # seconds that a request may take to arrive

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        if address.path == "/number" and self._allowed(self.headers.get("X-Token")):
            self._answer(lambda: self.server.number(query))
        elif address.path == "/" and self._allowed(query.get("token")):
            with self.server.lock:
                page = self.server.page()
            self._send(200, "text/html; charset=utf-8", page.encode())
        else:
            self._refuse()

    def do_POST(self) -> None:
        actions = {"/sentence": self.server.another, "/weight": self.server.moved}
        action = actions.get(self.path)
        length = self.headers.get("Content-Length", "")
        if action is None or not self._allowed(self.headers.get("X-Token")):
            self._refuse()
        elif not length.isdecimal() or int(length) > LARGEST:
            self._send(413, "application/json", b'{"error": "the request is too large"}')
        else:
            body = self.rfile.read(int(length))
            self._answer(lambda: action(_parsed(body)))

    def _allowed(self, token: str | None) -> bool:
        """Whether who asks has the token, and has asked for this host: a page of another site has neither."""
        host = self.headers.get("Host", "") in (f"{HOST}:{self.server.server_port}",
                                                f"localhost:{self.server.server_port}")
        return host and secrets.compare_digest((token or "").encode(), self.server.token.encode())

    def _refuse(self) -> None:
        self._send(403, "text/plain", b"")

    def _answer(self, compute: Callable[[], dict[str, Any]]) -> None:
        try:
            with self.server.lock:
                answer, status = compute(), 200
        except InputError as error:
            answer, status = {"error": sentence(error)}, 400
        self._send(status, "application/json", json.dumps(answer).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: standard error is for errors."""


def _parsed(body: bytes) -> Mapping[str, Any]:
    asked = parse_json(body, "the request")
    if not isinstance(asked, dict):
        raise InputError("expected an object in JSON")
    return asked
