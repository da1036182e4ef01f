"""Check hand-written gradients against numerical ones: any code on arrays, ours or a stranger's.

    from scratchnmt.gradcheck import assert_gradients
    assert_gradients(forward, backward, {"x": x, "W": W})     # raises with a readable report

An op is a pair of functions: forward(**args) -> (y, cache), backward(*dys, cache) -> gradients named
'd' + argument.  The reference is complex-step differentiation, exact to rounding, so the tolerance
is 1e-12 and belongs to the method, not to the test.
"""

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .api import assert_gradients, check_gradients, gate_labels, gradcheck
    from .compare import assert_variant, check_variant
    from .directional import assert_directional, check_directional
    from .layers import assert_layer, check_layer
    from .op import assert_contract, check_contract
    from .pairs import assert_hessian_vector, assert_jvp, assert_loss, check_hessian_vector, check_jvp, check_loss
    from .reference import NotAnalyticError, central, complex_step, gradient, richardson
    from .report import GradcheckError, Offender, Report, TensorReport

__all__ = [
    "GradcheckError", "NotAnalyticError", "Offender", "Report", "TensorReport",
    "assert_contract", "assert_directional", "assert_gradients", "assert_hessian_vector", "assert_jvp", "assert_layer",
    "assert_loss", "assert_variant", "central", "check_contract", "check_directional", "check_gradients",
    "check_hessian_vector", "check_jvp", "check_layer", "check_loss", "check_variant",
    "complex_step", "gate_labels", "gradcheck", "gradient", "richardson",
]
__getattr__, __dir__ = lazy_names(__name__, {
    "api": "assert_gradients check_gradients gate_labels gradcheck",
    "compare": "assert_variant check_variant",
    "op": "assert_contract check_contract",
    "directional": "assert_directional check_directional",
    "layers": "assert_layer check_layer",
    "pairs": "assert_hessian_vector assert_jvp assert_loss check_hessian_vector check_jvp check_loss",
    "reference": "NotAnalyticError central complex_step gradient richardson",
    "report": "GradcheckError Offender Report TensorReport",
})
