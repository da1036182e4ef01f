"""What `compile` is told of an optimizer: the choices of one of scratchnmt.optim, in the words and order of Keras."""

from __future__ import annotations

from typing import Any, NamedTuple

from .. import optim
from ..errors import InputError, look_up
from ..parameters import Parameters
from .layer import number


class SGD(NamedTuple):
    learning_rate: float = 0.01
    momentum: float = 0.0

    def of(self, params: Parameters) -> optim.SGD:
        return optim.SGD(params, self.learning_rate, self.momentum)


class Adam(NamedTuple):
    learning_rate: float = 1e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7

    def of(self, params: Parameters) -> optim.Adam:
        return optim.Adam(params, self.learning_rate, (self.beta_1, self.beta_2), self.epsilon, eps_hat=True)


class RMSprop(NamedTuple):
    learning_rate: float = 1e-3
    rho: float = 0.9
    momentum: float = 0.0  # there is no other here; it has its place in the order of arguments
    epsilon: float = 1e-7

    def of(self, params: Parameters) -> optim.RMSprop:
        return optim.RMSprop(params, self.learning_rate, self.rho, self.epsilon)


OPTIMIZERS: dict[str, type[SGD] | type[Adam] | type[RMSprop]] = {"sgd": SGD, "adam": Adam, "rmsprop": RMSprop}


def optimizer_named(given: Any) -> SGD | Adam | RMSprop:
    """An optimizer's choices, by its name or as they are; InputError for one that there is not."""
    if isinstance(given, RMSprop) and given.momentum:
        raise InputError(f"RMSprop: momentum is {given.momentum}, which there is not here: choose 0.0, or SGD or Adam")
    if isinstance(given, (SGD, Adam, RMSprop)):
        return type(given)(*(number(f"{type(given).__name__}: {name}", value)
                             for name, value in given._asdict().items()))
    return look_up("optimizer", given.lower() if isinstance(given, str) else given, OPTIMIZERS)()
