"""The quantities of an LSTM, of encoder or decoder."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from ..arrays import Array
from ..models.config import layer_name
from .quantity import DECODER, ENCODERS, Argument, Inside, Quantity, Side, left
from .record import Call

if TYPE_CHECKING:
    from .quantities import Table

GATES = "ifgo"


class LSTM:
    """The quantities of one LSTM: pre-activations, gates, c and h."""

    def __init__(self, table: Table, kind: str, l: int, d: int):
        self.table, self.kind, self.l, self.d = table, kind, l, d
        self.decoder, self.number = kind == "dec", l or ""
        self.axis, self.letter = ("t", "H") if self.decoder else ("s", "G")
        self.columns = table.H if self.decoder else table.G
        self.prev, self.next = (f"{self.axis}+1", f"{self.axis}-1") if kind == "bwd" else (
            f"{self.axis}-1", f"{self.axis}+1")
        self.Wx, self.Wh, self.b = (f"{layer_name('decoder' if self.decoder else 'encoder', l)}.{name}"
                                    f"{'' if self.decoder else f'[{d}]'}" for name in ("Wx", "Wh", "b"))
        self.common = partial(Quantity, group=DECODER if self.decoder else ENCODERS[kind], axis=self.axis, kind=kind,
                              reversed=kind == "bwd")

    def at(self, name: str, row: str = "", column: str = "j") -> str:
        """"c_dec[t,j]" of "c"."""
        return f"{self.id(name)}[{row or self.axis},{column}]"

    def id(self, name: str) -> str:
        return f"{name}_{self.kind}{self.number}"

    def argument(self, phase: str, name: str, after: bool) -> Argument:
        place: dict[str, Any] = {"layers": self.table.L} if self.decoder else {"direction": self.d}
        file, *functions = (("models/cells.py", "step", "step_backward") if self.decoder else
                            ("ops/lstm.py", "lstm_forward", "steps_backward"))
        function = f"{file}:{functions[phase == 'backward']}"
        return Argument(op=f"lstm_gates_{phase}", function=function, name=name, after=after, layer=self.l,
                        layout="decoder_step" if self.decoder else "encoder_step", **place)

    def quantities(self) -> Iterator[Quantity]:
        for k, gate in enumerate(GATES):
            yield from self._gate(k, gate)
        z, whole = self.argument("forward", "z", False), 4 * self.columns
        yield self.common(id=self.id("z"), title="pre-activations i, f, g, o", columns=whole, value=Side(z),
                          gradient=Side(self.argument("backward", "dz", True)))
        yield self.common(id=self.id("gates"), title="gates i, f, g, o", columns=whole,
                          value=Side(z._replace(after=True)))
        yield self._cell()
        if self.table.recurrent_dropout:
            mask = left("dropout_mask", "ops/recurrent_dropout.py:recurrent_mask", "result",
                        "decoder_mask" if self.decoder else "encoder_mask", layer=self.l, direction=self.d)
            yield Quantity(id=self.id("mask_h"), title="mask of recurrent dropout, at every step", axis="",
                           kind=self.kind, group=self.common.keywords["group"], columns=self.columns, value=Side(mask))
        yield self.common(id=self.id("h"), title="state h", columns=self.columns, start=self._start("h"),
                          value=Side(self.argument("forward", "h", True), f"{self.at('o')} * tanh({self.at('c')})"),
                          gradient=Side(self.argument("backward", "dh", False), paths=self._state_paths()))

    def _start(self, name: str) -> str:
        return f"{name}_init{self.number}" if self.decoder else ""

    def _gate(self, k: int, gate: str) -> Iterator[Quantity]:
        """Gate number k before and after its activation."""
        common = partial(self.common, columns=self.columns, first=k * self.columns)
        i, g, own = self.at("i"), self.at("g"), self.at(gate)
        times = {"i": f"{self.at('dc')} * {g}", "f": f"{self.at('dc')} * {self.at('c', self.prev)}",
                 "g": f"{self.at('dc')} * {i}", "o": f"{self.at('dh')} * tanh({self.at('c')})"}[gate]
        slope = f"(1 - {g} * {g})" if gate == "g" else f"{own} * (1 - {own})"
        yield common(id=self.id(f"z{gate}"), title=f"pre-activation of gate {gate}", of=self.id("z"),
                     value=Side(None, self._pre_activation(f"j{f'+{self.letter}' * k}")),
                     gradient=Side(None, f"{times} * {slope}"))
        yield common(id=self.id(gate), title="gate g, the new content" if gate == "g" else f"gate {gate}",
                     of=self.id("gates"),
                     value=Side(None, f"{'tanh' if gate == 'g' else 'sigmoid'}({self.at(f'z{gate}')})"))

    def _pre_activation(self, column: str) -> str:
        """x Wx + b + h_prev Wh, and what is fed."""
        fed = {"output": "o[t-1,k]", "context": f"a[{'t' if self.table.config.asks_before else 't-1'},k]",
               "start": "h_init[0,k]", "none": ""}[self.table.config.feed] if self.decoder and self.l == 0 else ""
        return " + ".join([*(f"sum k: {x} * {self.Wx}[{row},{column}]" for x, row in self._inputs()),
                           f"{self.b}[{column}]", f"sum k: {self.at('h', self.prev, 'k')} * "
                           f"{self.Wh}[k,{column}]{self.table.kept(self.kind, self.l, 'k')}",
                           *([f"sum k: {fed} * {self.Wh}[k+H,{column}]"] if fed else [])])

    def _inputs(self) -> list[tuple[str, str]]:
        """What it reads from below, and which rows of Wx are for it."""
        if self.l == 0:
            return [("y[t,k]" if self.decoder else "x[s,k]", "k")]
        if self.decoder:
            return [(f"x_dec{self.l}[t,k]", "k")]
        if self.table.dropout:
            return [(f"x_enc{self.l}[s,k]", "k")]
        return [(f"h_{kind}{self.l - 1 or ''}[s,k]", f"k{'+G' * d}") for kind, d in self.table.directions.items()]

    def _cell(self) -> Quantity:
        c = self.at("c")
        paths = {"state": f"{self.at('dh')} * {self.at('o')} * (1 - tanh({c}) * tanh({c}))",
                 "next": f"{self.at('dc', self.next)} * {self.at('f', self.next)}"}
        if not self.decoder:
            paths["first"] = self._first("c")
        value = f"{self.at('f')} * {self.at('c', self.prev)} + {self.at('i')} * {self.at('g')}"
        return self.common(id=self.id("c"), title="cell c", columns=self.columns, start=self._start("c"),
                           value=Side(self.argument("forward", "c", True), value),
                           gradient=Side(self.argument("backward", "dc", False), inside=THROUGH_STATE, paths=paths))

    def _state_paths(self) -> dict[str, str]:
        """Who reads the state."""
        table, l, row = self.table, self.l, f"j{'+G' * self.d}"
        if self.decoder:
            return table.state_paths(l)
        paths = {"recurrence": f"sum k: {self.at('dz', self.next, 'k')} * {self.Wh}[j,k]"
                               f"{self.table.kept(self.kind, self.l)}", "first": self._first("h")}
        if l == table.L - 1:
            return paths | table.state_of_source_paths(row)
        mask = f" * mask_enc{l + 1}[s,{row}]" if table.dropout else ""
        return paths | {f"input {kind}": f"sum k: dz_{kind}{l + 1}[s,k] * {layer_name('encoder', l + 1)}.Wx[{d}]"
                                         f"[{row},k]{mask}" for kind, d in table.directions.items()}

    def _first(self, name: str) -> str:
        """What the decoder's first state adds: to the state of a sentence's last word, and to no other."""
        return f"sum k: d{name}_init{self.number}[0,k] * {layer_name('init', self.l)}.W{name}[j{'+G' * self.d},k]"


def _through_state(trace: Any, call: Call) -> Array:
    """What comes through h = o tanh(c): dh o (1 - tanh(c)^2), as lstm_gates_backward has it."""
    cache = call.arguments["cache"]
    H = cache.tanh_c.shape[-1]
    return call.before["dh"] * cache.gates[..., 3 * H :] * (1 - cache.tanh_c**2)


THROUGH_STATE = Inside("state", "the state h, which is made of it", _through_state)
