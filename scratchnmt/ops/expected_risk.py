"""The expected risk of some translations of a sentence: what minimum risk training makes small.

    (1)  Q(y) = P(y)^alpha / sum over y' of P(y')^alpha           over the candidates y' of the sentence alone
    (2)  risk = sum over y of  Q(y) Delta(y)

These are (13) and (12) of Shen et al. (2016, ACL, "Minimum Risk Training for Neural Machine Translation").  Delta(y)
is how bad a translation is, such as 1 - BLEU: a given number, which needs no derivative.  A small
alpha makes Q flat; with alpha = 1, and all sentences that there are as candidates, Q is P, and (2) the risk itself.

    (3)  drisk / dlog P(y) = alpha Q(y) (Delta(y) - risk)

by (5) of activations.py, as Q is the softmax of alpha log P.  Candidates that are worse than the risk become less
probable, better ones more; over the candidates of a sentence (3) adds up to zero.

B sentences of up to K candidates: log_p, risks and mask (B, K), mask True where there is one; the result (B,).
Next: training/minimum_risk.py, which draws the candidates.
"""

from __future__ import annotations

from typing import NamedTuple

from ..arrays import Array, array_module, check_shapes
from .activations import softmax_forward


class ExpectedRiskCache(NamedTuple):
    Q: Array  # (B, K), zero where there is no candidate
    risks: Array  # (B, K), likewise
    risk: Array  # (B,)
    alpha: float


class ExpectedRiskGradients(NamedTuple):
    dlog_p: Array  # (B, K)


def expected_risk_forward(log_p: Array, risks: Array, mask: Array, alpha: float) -> tuple[Array, ExpectedRiskCache]:
    """risk (B,), cache from log_p = log P(y) and risks = Delta(y), (B, K); alpha > 0, which is not checked.

    Raises ValueError if a shape does not fit.
    """
    check_shapes("expected_risk", log_p=("B K", log_p), risks=("B K", risks), mask=("B K", mask))
    Q, _ = softmax_forward(alpha * log_p, mask)  # (1)
    risks = array_module(log_p).where(mask, risks, 0)
    risk = (Q * risks).sum(axis=1)  # (2)
    return risk, ExpectedRiskCache(Q, risks, risk, alpha)


def expected_risk_backward(drisk: Array, cache: ExpectedRiskCache) -> ExpectedRiskGradients:
    """dlog_p (B, K) from drisk (B,); the risks of the candidates are given, and have no gradient."""
    Q, risks, risk, alpha = cache
    return ExpectedRiskGradients(dlog_p=drisk[:, None] * alpha * Q * (risks - risk[:, None]))  # (3)
