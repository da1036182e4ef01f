"""The table that `summary` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .layer import shown

if TYPE_CHECKING:
    from .model import Sequential

WIDTHS = 35, 25, 12


def table(model: Sequential) -> str:
    """Layers, shapes with the batch as None, numbers of weights."""
    params, shape = model.params, model.input_shape
    assert shape is not None  # or there would be no weights
    padded = lambda cells: (str(cell).ljust(width) for cell, width in zip(cells, WIDTHS, strict=False))
    line = lambda *cells: " " + " ".join(padded(cells)).rstrip()
    rows = []
    for layer, weights in zip(model.layers, model.views(params), strict=True):
        shape = layer.built(shape)
        rows.append(line(f"{layer.name} ({layer.kind})", shown(shape), f"{sum(w.size for w in weights.values()):,}"))
    rule = lambda character: character * (sum(WIDTHS) + 3)
    size = params.flat.nbytes
    unit, per = next(((u, n) for u, n in (("MB", 1 << 20), ("KB", 1 << 10)) if size >= n), ("B", 1))
    return "\n".join([f'Model: "{model.name}"', rule("_"), line("Layer (type)", "Output Shape", "Param #"), rule("="),
                      *rows, rule("="), f"Total params: {params.flat.size:,} ({size / per:.2f} {unit})", rule("_")])
