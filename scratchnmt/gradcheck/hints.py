"""Guesses at why a gradient is wrong, where they cost nothing to see."""

from __future__ import annotations

import numpy as np

from .report import TensorReport


def hints_for(report: TensorReport, b: np.ndarray, r: np.ndarray, x: np.ndarray, rtol: float) -> list[str]:
    """Sentences on a wrong gradient: backward's elements b, the reference r, the argument x itself."""
    if report.ok or not np.isfinite(b).all():
        return []
    if not b.any():
        return [f"{report.name} is zero everywhere: is it ever written?"]
    close = 1e4 * rtol * (report.rms + np.abs(r))
    if (np.abs(b - r - x) <= close).all():
        return [f"{report.name} equals the reference plus {report.name[1:]} itself: "
                f"was the buffer initialised from {report.name[1:]}?"]
    factor = float(b @ r / (r @ r)) if r.any() else 0.0
    if r.size > 1 and factor and (np.abs(b - factor * r) <= close * abs(factor)).all():
        return [f"{report.name} is the reference times {factor:.6g}: a sign, or a mean for a sum?"]
    return []
