"""The gradient check is code as well."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ..patch import part


def a_wrong_gradient_is_seen_whatever_its_sign(package: ModuleType) -> None:
    """y = x^2 with a gradient that is too large, and one that is too small."""
    forward = lambda x: (x * x, x)
    x, dy = np.array([1.0, 2.0, 3.0]), np.array([0.5, 1.5, 1.0])
    for factor in (1.5, 0.5):
        backward = lambda dy, x, factor=factor: dy * factor * 2 * x
        report = part(package, "gradcheck.api").check_gradients(forward, backward, {"x": x}, dys=[dy])
        if report.wrong != ("dx",):
            raise AssertionError(f"a gradient of {factor} times its right value passes the check")
