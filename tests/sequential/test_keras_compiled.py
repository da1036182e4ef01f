"""What a Keras file tells of how its network was compiled: taken over, or told in a warning."""

import numpy as np
import pytest
from sequential.keras_parts import TRAINING, changed, cross_entropy, function, keras2, metric

import scratchnmt.sequential as ours


@pytest.mark.parametrize("loss, metric, known", [
    (cross_entropy(), metric("SparseCategoricalAccuracy"), "sparse_categorical_crossentropy"),
    ({**cross_entropy(), "module": "tf_keras.src.losses"}, "acc", "sparse_categorical_crossentropy"),
    ({"class_name": "CategoricalCrossentropy", "config": {"name": "mine"}}, metric("CategoricalAccuracy"),
     "categorical_crossentropy"),
    (function("mean_squared_error"), metric("MeanMetricWrapper", fn=function("categorical_accuracy")),
     "mean_squared_error"),
    ({"dense_1": "mse"}, {"dense_1": ["acc"]}, "mse"),
])
def test_a_loss_and_a_metric_that_are_told_as_objects(loss, metric, known, tmp_path):
    keras2(tmp_path / "old.h5", training={**TRAINING, "loss": loss, "metrics": [metric]})
    model = ours.load_model(tmp_path / "old.h5")
    assert (model.loss, model.metrics) == (known, ["acc"])


@pytest.mark.parametrize("training, words", [
    ({**TRAINING, "loss": ["mse", "mse"]}, "it has 2 losses"),
    ({**TRAINING, "loss": "poisson"}, "loss 'poisson' is not known"),
    ({**TRAINING, "metrics": [["mae"]]}, "metric 'mae' is not known"),
    ({**TRAINING, "optimizer_config": {"class_name": "Nadam", "config": {}}}, "optimizer 'nadam' is not known"),
    ({**TRAINING, "optimizer_config": {"class_name": "Custom>SGD", "config": {"nesterov": True}}}, "nesterov=True"),
    ({**TRAINING, "loss_weights": [0.5]}, r"loss_weights=\[0.5\]"),
    ({**TRAINING, "weighted_metrics": ["acc"]}, "weighted_metrics="),
    ({**TRAINING, "loss": cross_entropy(from_logits=True)}, "SparseCategoricalCrossentropy has from_logits=True"),
    ({**TRAINING, "loss": cross_entropy(reduction="sum")}, "has reduction='sum'"),
    ({**TRAINING, "loss": cross_entropy(ignore_class=0)}, "has ignore_class=0"),
    ({**TRAINING, "metrics": [{"class_name": "BinaryAccuracy", "config": {"name": "acc", "threshold": 0.9}}]},
     "BinaryAccuracy has threshold=0.9"),
    # an object is what its class is, not what it is called
    ({**TRAINING, "loss": {"class_name": "MeanAbsoluteError", "config": {"name": "mse"}}},
     "loss 'mean_absolute_error' is not known"),
    ({**TRAINING, "metrics": [metric("Accuracy", "accuracy")]},
     "metric 'accuracy' is not what accuracy is of these outputs, categorical_accuracy"),
    ({**TRAINING, "metrics": [function("accuracy")]}, "metric 'accuracy' is not what"),
    ({**TRAINING, "metrics": [[metric("BinaryAccuracy", threshold=0.5)]]}, "metric 'binary_accuracy' is not what"),
    ({**TRAINING, "metrics": [metric("SparseCategoricalAccuracy")]}, "metric 'sparse_categorical_accuracy' is not"),
    ({**TRAINING, "metrics": [metric("MeanMetricWrapper", fn=function("hinge"))]}, "metric 'hinge' is not what"),
    ({**TRAINING, "loss": {**cross_entropy(), "module": "mine"}},
     "is of a class 'SparseCategoricalCrossentropy' that is not Keras'"),
    ({**TRAINING, "metrics": [metric("CategoricalAccuracy", module="mine")]}, "that is not Keras'"),
    ({**TRAINING, "loss": {**function("mean_squared_error"), "registered_name": "mine>mean_squared_error"}},
     "'mine>mean_squared_error' that is not Keras'"),
    ({**TRAINING, "optimizer_config": {"class_name": "mine>Adam", "config": {}}},
     "optimizer is of a class 'mine>Adam' that is not Keras'"),
    ({**TRAINING, "optimizer_config": {"class_name": "Adam", "module": "__main__", "registered_name": "Adam",
                                       "config": {}}}, "optimizer is of a class 'Adam' that is not Keras'"),
])
def test_how_it_was_compiled_is_taken_over_or_not_with_a_word(training, words, tmp_path):
    keras2(tmp_path / "old.h5", training=training)
    with pytest.warns(UserWarning, match=f"old.h5: the network is not compiled as it was: .*{words}"):
        assert not ours.load_model(tmp_path / "old.h5").compiled


def test_what_has_no_effect_here_is_told(tmp_path):
    keras2(tmp_path / "old.h5", lstm={"\x1b[2J_regularizer": 1, **{f"{n:01000}_regularizer": 1 for n in range(40)}})
    with pytest.warns(UserWarning, match="'lstm_1' .LSTM. has ") as warned:
        ours.load_model(tmp_path / "old.h5")
    assert all(str(one.message).isprintable() and len(str(one.message)) < 6000 for one in warned)
    keras2(tmp_path / "old.h5", lstm={"kernel_regularizer": {"class_name": "L2", "config": {"l2": 0.1}}})
    with pytest.warns(UserWarning, match="'lstm_1' .LSTM. has kernel_regularizer, which there is not here"):
        ours.load_model(tmp_path / "old.h5")
    keras2(tmp_path / "older.h5", training=TRAINING, optimizer=True)
    with pytest.warns(UserWarning, match="older.h5: what the optimizer keeps is not as Keras 3 writes it"):
        ours.load_model(tmp_path / "older.h5")


@pytest.mark.parametrize("which", ["layer", "backward_layer"])
def test_a_regularizer_of_either_direction_is_told(which, tmp_path):
    model = ours.Sequential([ours.Bidirectional(ours.LSTM(2), input_shape=(3, 4))])
    changed(tmp_path / "a.keras", model, lambda told: told["config"]["layers"][1]["config"][which]["config"].update(
        kernel_regularizer={"class_name": "L2"}))
    with pytest.warns(UserWarning, match="has kernel_regularizer, which there is not here"):
        ours.load_model(tmp_path / "a.keras")


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_the_inputs_dtype_is_not_the_networks(dtype, tmp_path):
    model = ours.Sequential([ours.Embedding(9, 3, input_shape=(4,)), ours.Dense(2)], dtype="float64")
    changed(tmp_path / "a.keras", model, lambda told: told["config"]["layers"][0]["config"].update(dtype=dtype))
    again = ours.load_model(tmp_path / "a.keras")
    assert again.dtype == "float64" and all(map(np.array_equal, again.get_weights(), model.get_weights()))
