"""The pictures of a report: each function draws from rows if they hold what it needs, and says whether it did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from .read import Key, Table, sizes
from .scaling import exponent

OURS = ("NumPy", "CuPy")  # contestants of `ops`
MARKERS, LINES = "osD^vPX*<>", ("-", "--", ":", "-.")


@contextmanager
def picture(paths: Sequence[Path], panels: int = 1) -> Iterator[Any]:
    import matplotlib.pyplot as plt

    with plt.rc_context({"axes.prop_cycle": plt.cycler(color=["black", "0.35", "0.55"]), "font.size": 9,
                         "svg.hashsalt": "scratchnmt",
                         "axes.spines.top": False, "axes.spines.right": False}):
        figure, axes = plt.subplots(1, panels, figsize=(max(6.4, 3.4 * panels), 3.8), squeeze=False,
                                    layout="constrained")
        yield axes[0]
        for path in paths:
            figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
        plt.close(figure)


def style(k: int) -> dict[str, Any]:
    return {"marker": MARKERS[k % len(MARKERS)], "linestyle": LINES[k % len(LINES)], "markersize": 5}


def _plain_numbers(place: Any, at: Sequence[float]) -> None:
    """Ticks of logarithmic axes that are read without arithmetic: the sizes themselves, and 1, 2, 5, 10 ..."""
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    place.set_xticks(sorted(set(at)), [f"{n:,}" for n in sorted(set(at))], rotation=45)
    place.xaxis.set_minor_formatter(NullFormatter())
    place.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    place.yaxis.set_major_formatter(ScalarFormatter())
    place.yaxis.set_minor_formatter(NullFormatter())


def scaling(table: Table, paths: Sequence[Path]) -> bool:
    """Time against each size on log axes."""
    panels: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for key, row in table.items():
        if key.command == "scaling":
            letter = key.what[-1]
            panels[letter][f"{key.contestant}, {key.device}"].append((sizes(key)[letter], float(row["ms"])))
    if not panels:
        return False
    with picture(paths, len(panels)) as axes:
        for place, (letter, lines) in zip(axes, panels.items(), strict=True):
            for k, (name, points) in enumerate(lines.items()):
                place.loglog(*zip(*sorted(points), strict=True), label=f"{name}: {letter}^{exponent(points):.2f}",
                             **style(k))
            place.set_xlabel(letter)
            place.legend(frameon=False, fontsize=7)
            _plain_numbers(place, [n for points in lines.values() for n, _ in points])
        axes[0].set_ylabel("milliseconds of a training step")
    return True


def roofline(table: Table, paths: Sequence[Path]) -> bool:
    """Operations per second of every op with products, below the limits of its machine."""
    fastest: dict[Key, tuple[Key, dict[str, str]]] = {}  # of the ways to do the same
    for key, row in table.items():
        if (key.command == "ops" and row["gflop"] and row["gbyte"] and key.dtype == "float32"
                and key.contestant.startswith(OURS)):
            same = key._replace(contestant="")
            if same not in fastest or float(row["ms"]) < float(fastest[same][1]["ms"]):
                fastest[same] = key, row
    rows = list(fastest.values())
    devices = list(dict.fromkeys(key.device for key, _ in rows))
    if not devices:
        return False
    with picture(paths, len(devices)) as axes:
        for place, device in zip(axes, devices, strict=True):
            _roof(place, device, [(key, row) for key, row in rows if key.device == device])
    return True


def _roof(place: Any, device: str, rows: list[tuple[Key, dict[str, str]]]) -> None:
    sgemm, copy = (float(rows[0][1][name]) / 1e9 for name in ("sgemm", "copy"))
    points: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for key, row in rows:
        intensity = float(row["gflop"]) / float(row["gbyte"])
        points[key.what.partition(",")[0]].append((intensity, float(row["gflop_per_s"])))
    intensities = [x for own in points.values() for x, _ in own]
    x = np.geomspace(min(intensities) / 2, max(*intensities, 2 * sgemm / copy) * 2, 100)
    place.loglog(x, np.minimum(sgemm, copy * x), color="black", linewidth=1.5)
    for k, (name, own) in enumerate(points.items()):
        place.loglog(*zip(*own, strict=True), label=name, **style(k) | {"linestyle": ""})
    place.set_xlabel("operations for each byte that must move")
    place.set_ylabel("GFLOP/s")
    place.set_title(f"{device}\nsgemm {sgemm:,.0f} GFLOP/s, copy {copy:,.0f} GB/s", fontsize=8)
    place.legend(frameon=False, fontsize=7)


def speed_up(table: Table, paths: Sequence[Path]) -> bool:
    """How much faster the fastest way on a GPU is than NumPy, by the size that was swept; 1 is the crossover."""
    best: dict[tuple[str, str, str], dict[bool, float]] = defaultdict(dict)
    for key, row in table.items():
        if key.command == "ops" and key.what.endswith(", both") and key.contestant.startswith(OURS):
            on_gpu = key.contestant.startswith("CuPy")
            own = best[key.what, key.dtype, key.sizes]
            own[on_gpu] = min(float(row["ms"]), own.get(on_gpu, np.inf))
    lines: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for (what, dtype, text), times in best.items():
        if len(times) == 2:
            swept = sizes(Key("", "", "", "", "", text)).get("B", 0)
            lines[f"{what.removesuffix(', both')}, {dtype}"].append((swept, times[False] / times[True]))
    lines = {name: sorted(points) for name, points in lines.items() if len(points) > 1}
    if not lines:
        return False
    with picture(paths) as (place, *_):
        place.axhline(1, color="black", linewidth=0.7)
        for k, (name, points) in enumerate(lines.items()):
            place.loglog(*zip(*points, strict=True), label=name, **style(k))
            for at in _crossings(points):
                place.plot(at, 1, "o", markersize=11, markerfacecolor="none", markeredgecolor="black")
                place.annotate(f"B {at:.0f}", (at, 1), xytext=(8, -14), textcoords="offset points", fontsize=8)
        place.set_xlabel("B")
        place.set_ylabel("times as fast as NumPy (above 1: the GPU wins)")
        place.legend(frameon=False, fontsize=7, ncols=2)
        _plain_numbers(place, [n for points in lines.values() for n, _ in points])
    return True


def _crossings(points: Sequence[tuple[int, float]]) -> Iterator[float]:
    """Sizes at which a line on logarithmic axes crosses 1."""
    for (x, y), (next_x, next_y) in pairwise(points):
        if (y < 1) != (next_y < 1):
            yield x * (next_x / x) ** (np.log(y) / np.log(y / next_y))


def memory(table: Table, paths: Sequence[Path]) -> bool:
    """Peak memory of a step against the swept size."""
    panels: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    rows = [(key, sizes(key), row) for key, row in table.items() if key.command == "memory"]
    for letter in "BVT":
        values = {own[letter] for _, own, _ in rows}
        for key, own, row in rows:
            others = {name: n for name, n in own.items() if name != letter}
            same = [o for _, o, _ in rows if {name: n for name, n in o.items() if name != letter} == others]
            if len(values) > 2 and len({o[letter] for o in same}) > 2:
                panels[letter][f"{key.contestant}, {key.device}"].append((own[letter], float(row["gbyte"])))
    if not panels:
        return False
    with picture(paths, len(panels)) as axes:
        for place, (letter, lines) in zip(axes, panels.items(), strict=True):
            for k, (name, points) in enumerate(lines.items()):
                place.loglog(*zip(*sorted(points), strict=True), label=name, **style(k))
            place.set_xlabel(letter)
            place.legend(frameon=False, fontsize=7)
            _plain_numbers(place, [n for points in lines.values() for n, _ in points])
        axes[0].set_ylabel("GB at the peak of a step")
    return True


def busy(table: Table, paths: Sequence[Path]) -> bool:
    """Tokens, or sentences, a second against the cores that another program takes."""
    panels: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for key, row in table.items():
        if key.command == "busy":
            how = key.sizes.partition("taken=")[2].split()[1:]  # "pinned", "apart"
            name = ", the other ".join([key.contestant, *how])
            panels[key.what][name].append((sizes(key)["taken"], float(row["tokens_per_s"])))
    if not panels:
        return False
    with picture(paths, len(panels)) as axes:
        for place, (what, lines) in zip(axes, panels.items(), strict=True):
            for k, (name, points) in enumerate(lines.items()):
                place.semilogy(*zip(*sorted(points), strict=True), label=name, **style(k))
            place.set_xlabel("cores that another program takes")
            place.set_ylabel(f"{what} a second")
            place.legend(frameon=False, fontsize=6)
            _plain_numbers(place, [n for points in lines.values() for n, _ in points])
    return True


def ladder(table: Table, paths: Sequence[Path]) -> bool:
    """A step of each version of an LSTM layer and of its peers, forward and backward, on every device in one panel."""
    panels: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for key, row in table.items():
        if key.command == "ladder" and key.what.endswith(", both"):
            steps = sizes(key)["T"] * sizes(key)["layers"]
            panels[key.sizes].append((f"{key.contestant}, {key.dtype}\n{key.device}", 1e3 * float(row["ms"]) / steps))
    if not panels:
        return False
    with picture(paths, len(panels)) as axes:
        for place, (size, bars) in zip(axes, panels.items(), strict=True):
            drawn = place.barh(*zip(*bars, strict=True), color="0.7", log=True)
            place.bar_label(drawn, [f"{microseconds:,.3g}" if microseconds < 100 else f"{microseconds:,.0f}"
                                    for _, microseconds in bars], fontsize=7, padding=2)
            place.invert_yaxis()
            place.tick_params("y", labelsize=6)
            place.set_xlabel("µs a step, both ways")
            place.set_title(size.replace(" layers", "\nlayers"), fontsize=7)
            place.margins(x=0.3)
    return True


PICTURES: dict[str, Callable[[Table, Sequence[Path]], bool]] = {
    "speed-up": speed_up, "roofline": roofline, "scaling": scaling, "memory": memory,
    "busy": busy, "ladder": ladder}
