"""Layer objects: wherever weights and gradients are, whatever forward and backward take and return."""

from types import SimpleNamespace

import numpy as np
import pytest
from trees import W, X, names

from scratchnmt.gradcheck import check_layer, check_loss


def test_a_layer_stays_as_it_is():
    class Scale:
        def __init__(self):
            self.w, self.dw = np.ones(3), np.zeros(3)

        def forward(self, x):
            self.x = x
            return x * self.w

        def backward(self, dy):
            self.dw += (dy * self.x).sum(axis=0)
            return dy * self.w
    layer = Scale()
    assert names(check_layer(layer, X)) == ["dx", "dw"] and not layer.dw.any() and not hasattr(layer, "x")
    with pytest.raises(ValueError, match="has no method backward"):
        check_layer(object(), X)


def test_a_layers_weight_whose_gradient_is_nowhere_is_named():
    class Half:
        def __init__(self):
            self.w, self.b, self.dw, self.seen = np.ones(3), np.zeros(3), np.zeros(3), np.zeros(3)

        def forward(self, x):
            self.x = x
            self.seen = self.seen + x.sum(axis=0)
            return x * self.w + self.b, x.sum()

        def backward(self, dy, dsum):
            self.dw = (dy * self.x).sum(axis=0)
            return dy * self.w + dsum
    with pytest.raises(ValueError, match=r"no gradient was found for b of a Half: .* by wrt=\['x', 'w'\]"):
        check_layer(Half(), X)
    report = check_layer(Half(), X, wrt=["x", "w"])
    assert report.ok and names(report) == ["dx", "dw"] and not report.unchecked


def test_a_layer_that_has_run_before():
    class Tanh:
        def __init__(self, slip=1):
            self.W, self.slip = W.copy(), slip

        def forward(self, x):
            self.x, self.y = x, np.tanh(x @ self.W)
            return self.y

        def backward(self, dy):
            self.dy = dy
            dz = dy * (1 - self.y**2)
            self.dW, self.dx = self.slip * self.x.T @ dz, dz @ self.W.T
            return self.dx
    for slip in (1, 1.001):
        layer = Tanh(slip)
        layer.backward(layer.forward(X))
        report = check_layer(layer, X)
        assert names(report) == ["dx", "dW"] and report.wrong == (() if slip == 1 else ("dW",))
        assert not report.unchecked


def test_a_gradient_of_a_weight_that_forward_ignores_is_wrong():
    class Ignoring(Linear):
        def forward(self, x):
            return super().forward(x) - self.b
    assert check_layer(Ignoring(PLACES["returned in a tuple and kept"]), X, wrt=["x", "W"]).ok
    assert check_layer(Ignoring(PLACES["a dict"]), X).wrong == ("db",)


def test_states_statistics_and_numbers_of_a_layer_are_named_as_not_checked():
    class Norm:
        def __init__(self):
            self.gamma, self.running_mean, self.state = np.ones(3), np.zeros(3), np.zeros(3)
            self.eps, self.momentum, self.unused = 0.1, 0.9, np.zeros(3)

        def forward(self, x):
            self.x = x - self.running_mean + self.eps - self.state
            self.state = self.momentum * self.state + x.mean(axis=0)
            return self.gamma * self.x

        def backward(self, dy):
            self.dgamma = (dy * self.x).sum(axis=0)
            return dy * self.gamma
    report = check_layer(Norm(), X)
    assert report.ok and names(report) == ["dx", "dgamma"]
    assert report.unchecked == ("running_mean", "state", "eps")
    assert "not checked: running_mean, state, eps" in str(report).splitlines()[0]


class Linear:
    """y = x W + b, whose gradients go where `leave` puts them: leave(self, dx, dW, db) is what backward returns."""

    def __init__(self, leave, grads=None):
        self.W, self.b, self.leave, self.grads = W.copy(), W[0].copy(), leave, grads

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy):
        return self.leave(self, dy @ self.W.T, self.x.T @ dy, dy.sum(axis=0))


def kept(name, value):
    """leave(...) that sets an attribute to value(dx, dW, db), and returns dx."""
    return lambda layer, *gradients: (setattr(layer, name, value(*gradients)), gradients[0])[1]


PLACES = {
    "a dict": kept("grads", lambda dx, dW, db: {"W": dW, "b": db}),
    "a dict, with a d": kept("grads", lambda dx, dW, db: {"dW": dW, "db": db}),
    "a list": kept("grads", lambda dx, dW, db: [dW, db]),
    "a tuple": kept("grads", lambda dx, dW, db: (dW, db)),
    "another order": kept("grads", lambda dx, dW, db: [db, dW]),
    "returned in a tuple": lambda layer, dx, dW, db: (dx, dW, db),
    "returned in a list": lambda layer, dx, dW, db: [dx, dW, db],
    "returned in a tuple and kept": lambda layer, dx, dW, db: (dx, kept("dW", lambda *_: dW)(layer, dW), db),
    "dx and a tuple": lambda layer, dx, dW, db: (dx, (dW, db)),
    "dx and a dict": lambda layer, dx, dW, db: (dx, {"W": dW, "db": db}),
    "dx and a dict in a dict": lambda layer, dx, dW, db: {"dx": dx, "grads": {"W": dW, "b": db}},
    "a dict of all": lambda layer, dx, dW, db: {"x": dx, "W": dW, "b": db},
    "attributes alone": lambda layer, dx, dW, db: vars(layer).update(dx=dx, W_grad=dW, grad_b=db),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("slip", [None, "dx", "dW", "db"])
def test_wherever_a_layer_leaves_its_gradients(place, slip):
    def leave(layer, *gradients):
        return PLACES[place](layer, *((1.001 if name == slip else 1) * g
                                      for name, g in zip(("dx", "dW", "db"), gradients, strict=True)))
    for grads in (None, {}, [np.zeros_like(W), np.zeros_like(W[0])]):
        report = check_layer(Linear(leave, grads), X)
        assert names(report) == ["dx", "dW", "db"] and not report.unchecked
        assert report.wrong == (() if slip is None else (slip,))


@pytest.mark.parametrize("returned, sentence", [
    (lambda layer, dx, dW, db: dx, "no gradient was found for W, b of a Linear: backward returns an array of float64"),
    (lambda layer, dx, dW, db: (dx, dW), "no gradient was found for x, W, b of a Linear: backward returns a tuple"),
    (lambda layer, dx, dW, db: None, "no gradient was found for x, W, b of a Linear: backward returns None"),
    (lambda layer, dx, dW, db: {"x": dx, "W": dW}, "no gradient was found for b of a Linear: backward returns a dict"),
])
def test_what_a_layer_leaves_out_is_named(returned, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_layer(Linear(returned), X)


def test_a_gradient_of_the_wrong_shape_is_wrong_and_not_missing():
    def leave(layer, dx, dW, db):
        layer.dW, layer.db = dW.T, db[None]
        return dx
    assert check_layer(Linear(leave), X).wrong == ("dW", "db")


class Product:
    """y = x h + c, as a layer that returns what `leave` makes of its gradients and hands on the cache that it wants."""

    def __init__(self, leave=lambda dx, dh, dc: (dx, dh, dc), slip=1):
        self.leave, self.slip = leave, slip

    def forward(self, x, h, c):
        return x * h + c, (x, h)

    def backward(self, dy, cache):
        x, h = cache
        return self.leave(dy * h, self.slip * dy * x, dy)


def test_all_inputs_of_a_layer_are_checked():
    inputs = (X, 2 * X, X + 1)
    assert names(check_layer(Product(), *inputs)) == ["dx", "dh", "dc"] and check_layer(Product(), *inputs).ok
    assert check_layer(Product(slip=2), *inputs).wrong == ("dh",)
    by_name = Product(lambda dx, dh, dc: {"dx": dx, "dh": dh, "dc": dc}, slip=2)
    assert check_layer(by_name, *inputs).wrong == ("dh",)
    assert names(check_layer(Product(slip=2), *inputs, wrt=["x", "c"])) == ["dx", "dc"]
    none = check_layer(Product(lambda dx, dh, dc: (dx, None, dc)), *inputs)
    assert none.ok and names(none) == ["dx", "dc"] and none.unchecked == ("h",)
    with pytest.raises(ValueError, match="no gradient was found for x, h, c of a Product"):
        check_layer(Product(lambda dx, dh, dc: dx), *inputs)
    assert names(check_layer(Product(lambda dx, dh, dc: dx), *inputs, wrt="x")) == ["dx"]
    with pytest.raises(ValueError, match="wrt names 'y', which is no argument: x, h, c"):
        check_layer(Product(), *inputs, wrt="y")


def test_a_list_of_inputs_of_a_layer():
    class Concat:
        def forward(self, xs):
            self.sizes = np.cumsum([x.shape[1] for x in xs])[:-1]
            return np.concatenate(xs, axis=1) ** 2, np.concatenate(xs, axis=1)

        def backward(self, dy, cache):
            return np.split(2 * cache * dy, self.sizes, axis=1)
    report = check_layer(Concat(), [X, X[:, :1]])
    assert report.ok and names(report) == ["dxs[0]", "dxs[1]"]


@pytest.mark.parametrize("backward", [
    lambda self, dh, dc: 2 * self.x * dh + dc, lambda self, grad_h, grad_c: 2 * self.x * grad_h + grad_c,
    lambda self, dy, cache: 2 * cache * dy, lambda self, upstream, x: 2 * x * upstream])
def test_an_array_that_forward_returns_last_is_a_cache_by_its_name_in_backward(backward):
    class Square:
        def forward(self, x):
            self.x = x
            return x**2, x
    Square.backward = backward
    assert check_layer(Square(), X).ok


def test_what_is_given_to_a_layer_or_a_loss_stays_as_it_is():
    class Relu:
        def __init__(self, right):
            self.right = right

        def forward(self, x):
            self.mask = x <= 0
            x[self.mask] = 0
            return x

        def backward(self, dy):
            return dy * ~self.mask if self.right else dy

    def loss(w, x, slip=1):
        x -= x.mean(axis=0)
        return ((x @ w) ** 2).sum(), slip * 2 * x.T @ (x @ w)
    x = X.copy()
    assert check_layer(Relu(True), x).ok and not check_layer(Relu(False), x).ok
    report = check_loss(loss, W, x)
    assert report.ok and not check_loss(loss, W, x, 2).ok and np.array_equal(x, X)
    assert report.notes == ("forward writes into its argument x (allowed: writes arguments)",)


def test_a_table_of_words_as_a_layer():
    class Embedding:
        def __init__(self, slip=1):
            self.W, self.grads, self.slip = W.copy(), {}, slip

        def forward(self, ids):
            self.ids = ids
            return self.W[ids]

        def backward(self, dy):
            self.dW = np.zeros_like(self.W)
            np.add.at(self.dW, self.ids, self.slip * dy)
    assert names(check_layer(Embedding(), np.array([0, 2, 2]))) == ["dW"]
    assert not check_layer(Embedding(1.01), np.array([0, 2, 2])).ok


@pytest.mark.parametrize("slip", [1, 1.001])
def test_modules_settings_and_parallel_records_in_a_layer(slip):
    class Gate:
        def __init__(self):
            self.xp, self.p, self.g = np, SimpleNamespace(W=W.copy(), U=W.copy()), SimpleNamespace()

        def forward(self, x, *, scale):
            self.x, self.scale = x, scale
            return self.xp.tanh(x @ self.p.W) + scale * (x @ self.p.U)

        def backward(self, dy):
            dz = dy * (1 - self.xp.tanh(self.x @ self.p.W) ** 2)
            self.g.W, self.g.U = self.x.T @ dz, slip * self.scale * self.x.T @ dy
            return dz @ self.p.W.T + self.scale * dy @ self.p.U.T
    report = check_layer(Gate(), X, scale=3)
    assert names(report) == ["dx", "dp.W", "dp.U"] and report.wrong == (() if slip == 1 else ("dp.U",))


@pytest.mark.parametrize("slip", [1, 1.001])
def test_backward_of_a_loss_without_arguments(slip):
    class Loss:
        def forward(self, y, t):
            self.y, self.t = y, t
            return ((y - t) ** 2).sum()

        def backward(self):
            return 2 * slip * (self.y - self.t)
    report = check_layer(Loss(), X, 2 * X)
    assert report.ok == (slip == 1) and report.unchecked == ("t",)
    assert check_layer(Loss(), X, 2 * X, wrt="y").ok == (slip == 1)
    Loss.forward = lambda self, y, t: y
    with pytest.raises(ValueError, match="backward of a Loss takes no gradient"):
        check_layer(Loss(), X, 2 * X)


@pytest.mark.parametrize(("inputs", "predicted"), [
    ("y, t", "y"), ("y_true, y_pred", "y_pred"), ("target, x", "x"), ("y, y_hat", "y_hat"), ("a, b", "a")])
def test_of_a_losss_one_gradient_the_input_is_told_by_its_name(inputs, predicted):
    first, second = inputs.split(", ")
    scope = {}
    exec(f"def forward(self, {inputs}):\n    self.d = {predicted} - {second if predicted == first else first}\n"  # noqa: S102
         "    return (self.d**2).sum()", scope)
    loss = type("Loss", (), {"forward": scope["forward"], "backward": lambda self: 2 * self.d})()
    report = check_layer(loss, X, 3 * X)
    assert names(report) == [f"d{predicted}"] and report.ok


def test_a_cache_made_at_the_first_call_is_no_weight():
    class Caching:
        def __init__(self):
            self.W, self.mask = np.ones((3, 2)), None

        def forward(self, x):
            self.x = x
            self.mask = x > 0
            self.z = np.where(self.mask, x, 0)
            return self.z @ self.W

        def backward(self, dy):
            self.dW = self.z.T @ dy
            return dy @ self.W.T * self.mask
    layer = Caching()
    report = check_layer(layer, X)
    assert report.ok and names(report) == ["dx", "dW"] and report.unchecked == () and not hasattr(layer, "z")
