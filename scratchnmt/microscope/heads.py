"""The quantities of multi-head attention."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import Array
from .quantity import ATTENTION, Quantity, Side, found, left
from .record import Call

if TYPE_CHECKING:
    from .quantities import Table


class Heads:
    """The quantities of multi-head attention: of all heads side by side, then of each, query_0 to a_0, query_1, ..."""

    FILE = "models/attention/multi_head.py"

    def __init__(self, table: Table):
        self.table, self.d = table, table.H // table.config.heads
        self.step = partial(Quantity, group=ATTENTION, axis="t")
        self.source = partial(Quantity, group=ATTENTION, axis="s")

    def quantities(self) -> Iterator[Quantity]:
        """Head i has the columns i d to (i + 1) d of query, keys, values and context."""
        yield from self._of_all_heads()
        for i in range(self.table.config.heads):
            yield from self._of_head(i)

    def _of_all_heads(self) -> Iterator[Quantity]:
        step, source, H = self.step, self.source, self.table.H
        asked = f"h_dec{self.table.last}[{self.table.asked},k]"
        forward, backward = f"{self.FILE}:training_step", f"{self.FILE}:step_backward"
        made, after_loop = f"{self.FILE}:_projected", f"{self.FILE}:backward"
        yield step(id="query", title="queries of all heads", columns=H,
                   value=Side(left("product", forward, "out", "decoder_step", weight="attention.Wq"),
                              f"sum k: {asked} * attention.Wq[k,j]"),
                   gradient=Side(found("transposed_product", backward, "a", "decoder_step", weight="attention.Wq")))
        yield source(id="keys", title="keys of all heads, divided by the root of d", columns=H,
                     value=Side(left("multiply", made, "out", "sorted_rows"),
                                "sum k: h_enc[s,k] * attention.Wk[k,j] / sqrt(d)"),
                     gradient=Side(found("multiply", after_loop, "x", "sorted_rows")))
        yield source(id="values", title="values of all heads", columns=H,
                     value=Side(left("product", made, "result", "sorted_rows", weight="attention.Wv"),
                                "sum k: h_enc[s,k] * attention.Wv[k,j]"),
                     gradient=Side(found("product", after_loop, "a", "sorted_rows", weight="attention.Wv")))
        yield step(id="a", title="context, all heads side by side", columns=H,
                   value=Side(left("put", forward, "out", "decoder_step")),
                   gradient=Side(found("contiguous", backward, "x", "decoder_step"),
                                 paths=self.table.context_paths()))

    def _of_head(self, i: int) -> Iterator[Quantity]:
        heads = self.table.config.heads
        forward = partial(left, "attention_step_forward", f"{self.FILE}:_attend", layout="decoder_step", head=i,
                          heads=heads)
        dscore = left("attention_step_backward", f"{self.FILE}:step_backward", "dscore", "decoder_step", head=i,
                      heads=heads)
        column = "j" + "+d" * i
        of_step, of_source = (partial(common, columns=self.d, first=i * self.d) for common in (self.step, self.source))
        to_source = partial(self.step, columns=0, column_axis="s")
        yield of_step(id=f"query_{i}", title=f"query of head {i}", of="query", value=Side(None, f"query[t,{column}]"),
                      gradient=Side(None, f"sum s: dscore_{i}[t,s] * keys_{i}[s,j]"))
        yield of_source(id=f"keys_{i}", title=f"keys of head {i}", of="keys", value=Side(None, f"keys[s,{column}]"),
                        gradient=Side(None, f"sum t: dscore_{i}[t,s] * query_{i}[t,j]"))
        yield of_source(id=f"values_{i}", title=f"values of head {i}", of="values",
                        value=Side(None, f"values[s,{column}]"),
                        gradient=Side(None, f"sum t: weights_{i}[t,s] * da_{i}[t,j]"))
        yield to_source(id=f"score_{i}", title=f"score of a source word, head {i}",
                        value=Side(forward("query")._replace(after=False),
                                   f"sum k: query_{i}[t,k] * keys_{i}[s,k]", derived=compared),
                        gradient=Side(dscore, f"weights_{i}[t,s] * (sum k: da_{i}[t,k] * values_{i}[s,k]"
                                              f" - sum k: da_{i}[t,k] * a_{i}[t,k])"))
        yield to_source(id=f"weights_{i}", title=f"attention weights of head {i}", value=Side(
            forward("weights"), f"exp(score_{i}[t,s]) / (sum r: exp(score_{i}[t,r]))"))
        yield of_step(id=f"a_{i}", title=f"part of the context of head {i}", of="a",
                      value=Side(None, f"sum s: weights_{i}[t,s] * values_{i}[s,j]"),
                      gradient=Side(None, f"da[t,{column}]"))


def compared(trace: Any, call: Call, query: np.ndarray) -> Array:
    """Equation (1) of ops/attention.py once more: the operation keeps the weights alone."""
    keys, v = call.arguments["keys"], call.arguments.get("v")
    return query @ keys.transpose(0, 2, 1) if v is None else np.tanh(query[:, :, None] + keys[:, None]) @ v
