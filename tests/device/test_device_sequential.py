"""Networks of layers give the same on the stand-in for CuPy, masks and all."""

import pytest
from sequential import examples

from scratchnmt import sequential

CASES = {
    "seed": (lambda layers: examples.seed_network(layers, input_shape=(examples.T, examples.I)),
             "categorical_crossentropy", examples.vectors, lambda rng: examples.one_hot(rng, 24, 4)),
    "classifier": (examples.classifier, "binary_crossentropy", examples.ids,
                   lambda rng: rng.integers(0, 2, (24, 1)).astype("float32")),
    "tagger": (examples.tagger, "sparse_categorical_crossentropy", examples.ids,
               lambda rng: rng.integers(0, examples.CLASSES, (24, examples.T))),
    "regression": (examples.masked_regression, "mse", examples.gappy,
                   lambda rng: rng.standard_normal((24, examples.T, 2)).astype("float32")),
}


@pytest.mark.parametrize("name", CASES)
def test_training_is_the_same_on_both(name, rng, cupy):
    make, loss, x, y = CASES[name]
    x, y, found = x(rng), y(rng), []
    for device in ("cpu", "cuda"):
        model = sequential.Sequential(make(sequential), device=device, dtype="float64")
        model.compile("adam", loss, metrics=["accuracy"])
        history = model.fit(x, y, epochs=2, batch_size=8, validation_split=0.25, verbose=0).history
        found.append([history, model.predict(x), *model.get_weights()])
    assert found[1][0] == {name: pytest.approx(values, rel=1e-12) for name, values in found[0][0].items()}
    for on_cpu, on_device in zip(found[0][1:], found[1][1:], strict=True):
        assert on_device == pytest.approx(on_cpu, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("ending", ["safetensors", "keras", "h5"])
def test_frozen_saved_and_loaded_on_the_device_it_goes_on(ending, rng, cupy, tmp_path):
    if ending != "safetensors":
        pytest.importorskip("h5py")
    x, y = examples.vectors(rng), examples.one_hot(rng, 24, 4)
    layers = examples.seed_network(sequential, input_shape=(examples.T, examples.I))
    model = sequential.Sequential(layers, device="cuda", dtype="float64")
    layers[0].trainable = False
    model.compile("adam", "categorical_crossentropy")
    before = layers[0].get_weights()
    model.fit(x, y, batch_size=8, verbose=0, class_weight={0: 2.0})
    assert all((old == new).all() for old, new in zip(before, layers[0].get_weights(), strict=True))
    model.save(tmp_path / f"network.{ending}")
    loaded = sequential.load_model(tmp_path / f"network.{ending}", device="cuda")
    histories = [one.fit(x, y, batch_size=8, epochs=2, verbose=0).history["loss"] for one in (model, loaded)]
    assert histories[1] == pytest.approx(histories[0], rel=1e-9)
