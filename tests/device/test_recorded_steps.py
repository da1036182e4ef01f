"""Steps of fused kernels: ahead of the host's reading, recorded as graphs, the same whichever way they run."""

import json
import math
import warnings
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from fake_cupy.cuda import Stream
from test_device_training import EXACT, Losses
from training import tiny_run
from training.tiny_run import At, Killed, essence, kill, model, options, run

from scratchnmt.data.batches import make_batch
from scratchnmt.files.run_folder import RunFolder
from scratchnmt.kernels import product
from scratchnmt.kernels.graph import Graphs
from scratchnmt.models.inputs import Bucket, fields, fill, read_inputs, views
from scratchnmt.models.nmt import Teachers
from scratchnmt.training import NotFiniteError, train
from scratchnmt.training.loop import Trainer
from scratchnmt.training.step import Part, Place
from scratchnmt.training.step_ahead import AHEAD

FUSED = {"device": "cuda", "embed_dropout": 0.2}
CONFIGURATIONS = {
    "default": {}, "two layers": {"layers": 2, "feed": "context", "label_smoothing": 0.1},
    "tied, dot, none": {"tie_embeddings": True, "score": "dot", "feed": "none", "bidirectional": False},
    "two layers, output": {"layers": 2},
    "local-m": {"attention": "local-m", "window": 1},
    "multi-head": {"attention": "multi-head", "heads": 2},
    "the previous state asks": {"query": "previous", "feed": "context"},
    "location": {"score": "location"},
    "recurrent dropout": {"recurrent_dropout": 0.2, "encoder_dropout": 0.2},
    "layer-norm-lstm": {"cell": "layer-norm-lstm", "recurrent_dropout": 0.2},
    "R-Drop": {"r_drop": 0.7, "dropout": 0.2},
    "no attention": {"score": "none", "feed": "start", "readout": "state"},
}
SLOW = ("two layers, output", "tied, dot, none")  # what they add is in others, too
by_configuration = pytest.mark.parametrize("choices", [
    pytest.param(choices, id=name, marks=[pytest.mark.slow] * (name in SLOW))
    for name, choices in CONFIGURATIONS.items()])


def trainer(choices=(), **changes):
    made = Trainer(model(**FUSED, **dict(choices)), tiny_run.data(), options(**changes), RunFolder("no folder"))
    made.progress = Losses()
    return made


@by_configuration
def test_a_recorded_step_waits_for_none_but_one_long_ago(machine, choices):
    made = trainer(choices)
    for _ in range(12):
        made.step()
    machine.waits.clear()
    machine.uploads.clear()
    launches, steps = machine.launches, len(made.progress.nats_of_steps)
    for _ in range(5):
        made.step()
    assert machine.launches - launches >= 4
    assert all(int(wait.split()[1]) >= 3 * (AHEAD - 2) for wait in machine.waits), "\n".join(machine.waits)
    assert len(machine.uploads) == 5, "one copy a step: " + "\n".join(machine.uploads)
    assert len(made.progress.nats_of_steps) - steps == 5  # as many come back as go
    made._note_results(wait=True)
    assert len(made.progress.nats_of_steps) == 17


@by_configuration
def test_recorded_or_not_the_bits_are_the_same(tmp_path, machine, choices):
    found, launches = [], []
    for graphs in (64, 1, 0):
        before, progress = machine.launches, Losses()
        run(tmp_path / str(graphs), progress=progress, choices=FUSED | choices, graphs=graphs, average=0.9,
            max_epochs=2)
        found.append((essence(tmp_path / str(graphs)), progress.nats_of_steps))
        launches.append(machine.launches - before)
    assert found[0] == found[1] == found[2]
    assert launches[0] > launches[1] > launches[2] == 0


def test_with_teachers_recorded_or_not_the_bits_are_the_same(tmp_path, machine):
    teachers = tuple(model(device="cuda", seed=seed, layers=seed) for seed in (1, 2))
    data, found, launches = replace(tiny_run.data(), teachers=teachers), [], []
    for graphs in (64, 0):
        before, progress = machine.launches, Losses()
        train(model(**FUSED), data, options(graphs=graphs), tmp_path / str(graphs), progress=progress)
        found.append((essence(tmp_path / str(graphs)), progress.nats_of_steps))
        launches.append(machine.launches - before)
    assert found[0] == found[1] and launches[0] > launches[1] == 0


def test_teachers_of_a_batch_in_a_bucket_are_those_of_the_batch(rng, cupy):
    on_cpu, on_device = ([model(**EXACT, seed=seed, device=device) for seed in (1, 2, 3)] for device in ("cpu", "cuda"))
    batch = make_batch(*([rng.integers(4, 12, n).tolist() for n in lengths] for lengths in ((3, 5, 1), (4, 1, 6))))
    loss, cache = on_cpu[0].forward(batch.src, batch.src_lengths, batch.tgt, teachers=Teachers(on_cpu[1:], 0.7))
    bucket = Bucket.of(batch.src, batch.tgt)
    host = np.zeros(sum(map(math.prod, fields(bucket).values())), "int64")
    fill(views(host, fields(bucket)), bucket, (12, 12), *batch[:3])
    inputs = read_inputs(views(cupy.asarray(host), fields(bucket)), bucket)
    device_loss, device_cache = on_device[0].forward_inputs(inputs, teachers=Teachers(on_device[1:], 0.7))
    found = on_device[0].backward(device_cache)
    np.testing.assert_allclose(float(device_loss), loss, rtol=1e-13)
    for name, gradient in on_cpu[0].backward(cache).items():
        np.testing.assert_allclose(found[name].get(), gradient, rtol=1e-11, atol=1e-12, err_msg=name)


def test_a_killed_run_that_is_resumed_ends_in_the_same_bits(tmp_path, machine):
    run(tmp_path / "whole", choices=FUSED)
    with pytest.raises(Killed):
        run(tmp_path / "killed", choices=FUSED, progress=At(11, kill), save_every=4)
    run(tmp_path / "killed", choices=FUSED, resume=True, save_every=4)
    assert essence(tmp_path / "killed") == essence(tmp_path / "whole")


@by_configuration
@pytest.mark.parametrize("rows", [None, 3])
def test_a_batch_in_a_bucket_is_the_batch(choices, rows, rng, cupy):
    """Loss and gradients of sizes rounded up, sentences made up, against the batch as it is on the CPU."""
    on_cpu, on_device = (model(**EXACT | choices, device=device) for device in ("cpu", "cuda"))
    on_cpu.params.flat[...] = rng.standard_normal(on_cpu.params.flat.size) / 2
    on_device.params.flat[...] = cupy.asarray(on_cpu.params.flat)
    src, tgt = ([rng.integers(4, 12, n).tolist() for n in lengths] for lengths in ((3, 5, 1), (4, 1, 6)))
    batch = make_batch(src[:rows], tgt[:rows])
    loss, cache = on_cpu.forward(batch.src, batch.src_lengths, batch.tgt)
    grads = on_cpu.backward(cache)
    bucket = Bucket.of(batch.src, batch.tgt)
    assert (bucket.S, bucket.T, bucket.B) == (8, 8, 8) and 14 <= bucket.N < 64
    host = np.zeros(sum(map(math.prod, fields(bucket).values())), "int64")
    fill(views(host, fields(bucket)), bucket, (12, 12), *batch[:3])
    inputs = read_inputs(views(cupy.asarray(host), fields(bucket)), bucket)
    device_loss, cache = on_device.forward_inputs(inputs)
    found = on_device.backward(cache)
    np.testing.assert_allclose(float(device_loss), loss, rtol=1e-13)
    for name, gradient in grads.items():
        np.testing.assert_allclose(found[name].get(), gradient, rtol=1e-11, atol=1e-12, err_msg=name)


def test_two_passes_of_a_batch_in_a_bucket_are_side_by_side(rng, cupy):
    """Of masks that drop nothing the predictions of both are the same, so that R-Drop is the loss of one."""
    choices = EXACT | {"r_drop": 9.0, "dropout": 1e-12}
    on_cpu, on_device = (model(**choices, device=device) for device in ("cpu", "cuda"))
    on_cpu.params.flat[...] = rng.standard_normal(on_cpu.params.flat.size) / 2
    on_device.params.flat[...] = cupy.asarray(on_cpu.params.flat)
    batch = make_batch(*([rng.integers(4, 12, n).tolist() for n in lengths] for lengths in ((3, 5, 1), (4, 1, 6))))
    loss, cache = on_cpu.forward(batch.src, batch.src_lengths, batch.tgt)
    bucket = Bucket.of(batch.src, batch.tgt, passes=2)
    assert (bucket.S, bucket.T, bucket.B, bucket.passes) == (8, 8, 8, 2) and 28 <= bucket.N < 64
    host = np.zeros(sum(map(math.prod, fields(bucket).values())), "int64")
    fill(views(host, fields(bucket)), bucket, (12, 12), *batch[:3])
    inputs = read_inputs(views(cupy.asarray(host), fields(bucket)), bucket)
    device_loss, device_cache = on_device.forward_inputs(inputs, cupy.random.default_rng(0))
    found = on_device.backward(device_cache)
    np.testing.assert_allclose(float(device_loss), loss, rtol=1e-9)
    for name, gradient in on_cpu.backward(cache).items():
        np.testing.assert_allclose(found[name].get(), gradient, rtol=1e-8, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("ids, message", [
    (([[4, 99]], [[5]]), "source ids run from 4 to 99, expected 0 to V - 1 = 11"),
    (([[4]], [[5, 12]]), "target ids run from 1 to 12, expected 0 to V - 1 = 11"),
])
def test_ids_outside_a_vocabulary(ids, message):
    batch = make_batch(*ids)
    bucket = Bucket.of(batch.src, batch.tgt)
    vector = np.zeros(sum(map(math.prod, fields(bucket).values())), "int64")
    with pytest.raises(IndexError, match=message):
        fill(views(vector, fields(bucket)), bucket, (12, 12), *batch[:3])


@pytest.mark.parametrize("shape, words, expected", [
    ((20, 26, 64), 900, (20, 28, 64, 1120)), ((33, 33, 5), 5, (40, 40, 8, 40)), ((1, 1, 1), 1, (4, 4, 8, 4)),
    ((32, 32, 128), 4096, (32, 32, 128, 4096)),
])
def test_buckets(shape, words, expected):
    S, T, B = shape
    tgt = np.zeros((T + 1, B), int)
    tgt[1:].reshape(-1)[:words] = 5
    assert Bucket.of(np.ones((S, B)), tgt) == (*expected, 1)


@pytest.mark.parametrize("choices", [{"score": "concat"}, {"attention": "local-p"}], ids=str)
def test_what_needs_products_of_cupys_own_is_not_recorded(choices, machine):
    made = trainer(choices)
    for _ in range(8):
        made.step()
    assert not machine.launches


def test_a_loss_that_overflows_names_its_own_step(tmp_path, machine):
    with pytest.raises(NotFiniteError, match=r"at step (\d+), epoch \d.*: training stopped") as error:
        run(tmp_path / "run", choices=FUSED, optimizer="sgd", learning_rate=1e30, clip=0.0)
    at_once = tmp_path / "plain"
    with pytest.raises(NotFiniteError) as expected, np.errstate(all="ignore"):
        run(at_once, choices=FUSED | {"kernels": "plain", "dropout": 0.0, "embed_dropout": 0.0}, optimizer="sgd",
            learning_rate=1e30, clip=0.0)
    assert "step 2," in str(error.value) and "step 2," in str(expected.value)
    assert "the last good state is kept in" in str(error.value)


@pytest.mark.parametrize("parts", [2, *(pytest.param(parts, marks=pytest.mark.slow) for parts in (5, 16))])
def test_parts_of_a_batch_are_the_batch(tmp_path, machine, parts):
    losses = []
    for accumulate in (1, parts):
        progress = Losses()
        run(tmp_path / str(accumulate), progress=progress, choices=FUSED | EXACT | {"embed_dropout": 0.0},
            accumulate=accumulate, average=0.9)
        losses.append(progress.nats_of_steps)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-10)


def test_parts_that_are_recorded_or_not_give_the_same_bits(tmp_path, machine):
    for graphs in (64, 0):
        run(tmp_path / str(graphs), choices=FUSED, graphs=graphs, accumulate=3)
    assert essence(tmp_path / "64") == essence(tmp_path / "0") and machine.launches > 20


def test_each_part_has_masks_of_its_own(machine):
    made, seen = trainer(accumulate=2, graphs=0), []
    gradient = made.steps._gradient
    made.steps._gradient = lambda there, bucket: seen.append(int(there["step"].get()[0])) or gradient(there, bucket)
    made.step()
    made.step()
    assert seen == [0, 1 << 32, 1, 1 | 1 << 32]


def broken_at(steps, choices=(), late=6, monkeypatch=None, what="gradient"):
    """A trainer whose loss or gradient is not finite at some steps, on the card, whatever the host knows by then."""
    from fake_cupy import cuda

    monkeypatch.setattr(cuda.Event, "_late", late)
    made = trainer(choices, graphs=0, max_epochs=9, on_nonfinite="skip")
    gradient, taken = made.steps._gradient, []

    def broken(there, bucket):
        loss = gradient(there, bucket)
        if int(there["step"].get()[0]) + 1 in steps:
            if what == "loss":
                return loss * np.nan
            made.steps.grads["combine.W"][0, 0] = np.nan
        taken.append(1)
        return loss

    made.steps._gradient = broken
    return made


@pytest.mark.parametrize("what", ["gradient", "loss"])
@pytest.mark.parametrize("late", [0, 3, 6, 100])
def test_a_step_that_is_not_finite_moves_nothing_and_is_found_however_late(machine, monkeypatch, tmp_path, late, what):
    made = broken_at({3, 4, 9}, late=late, monkeypatch=monkeypatch, what=what)
    made.folder, flats = RunFolder(tmp_path), []
    for _ in range(12):
        made.step()
        flats.append(made.model.params.flat.get())
    made._note_results(wait=True)
    moved = [not np.array_equal(a, b) for a, b in pairwise(flats)]
    assert [step + 2 for step, one in enumerate(moved) if not one] == [3, 4, 9]
    assert made.state.skipped == 3 and made.optimizer.step_count == 12
    records = [json.loads(line) for line in (tmp_path / "not-finite.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [3, 4, 9]
    assert all(record["tensors"] == (["combine.W"] if what == "gradient" else []) for record in records)


@pytest.mark.parametrize("late", [0, 6, 100])
def test_to_stop_means_that_no_later_step_moves_the_weights(machine, monkeypatch, tmp_path, late):
    made = broken_at({3}, late=late, monkeypatch=monkeypatch)
    made.steps.recipe = made.steps.recipe._replace(stop=True)
    made.options, made.folder, flats = replace(made.options, on_nonfinite="stop"), RunFolder(tmp_path), []
    with pytest.raises(NotFiniteError, match="gradient's norm is nan at step 3, epoch 1; not finite is the gradient of "
                       "combine.W; it is of the 13 sentence pairs"):
        for _ in range(12):
            made.step()
            flats.append(made.model.params.flat.get())
    assert all(np.array_equal(flat, flats[1]) for flat in flats[2:]) and not np.array_equal(flats[0], flats[1])
    assert np.array_equal(made.model.params.flat.get(), flats[1])


def test_a_step_that_cannot_be_recorded_goes_on_with_a_warning(tmp_path, machine, monkeypatch):
    run(tmp_path / "recorded", choices=FUSED)
    original = Stream.end_capture

    def refuse(self):
        original(self)
        raise RuntimeError("cudaErrorStreamCaptureInvalidated: operation failed")

    monkeypatch.setattr(Stream, "end_capture", refuse)
    launches = machine.launches
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(tmp_path / "refused", choices=FUSED)
    assert [str(w.message)[:47] for w in caught] == ["a step cannot be recorded as a CUDA graph (cuda"]
    assert machine.launches == launches and essence(tmp_path / "refused") == essence(tmp_path / "recorded")


def test_memory_that_is_given_back_takes_the_graphs_with_it(cupy, machine):
    made = trainer()
    for _ in range(8):
        made.step()
    graphs, freed = made.steps.graphs, machine.freed
    assert graphs.graphs
    machine.most = 0
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError):
        graphs._allocate(1 << 20)
    assert not graphs.graphs and machine.freed == freed + 1, "the other pool's reserve goes first"


def some_graphs(cupy):
    """Graphs, and an array with work that adds 1 to it."""
    array = cupy.zeros(3)
    return Graphs(4), array, lambda: cupy.add(array, cupy.ones(3), out=array)


def times(graphs, count, work):
    for _ in range(count):
        with graphs.turn():
            graphs.run("key", work)


def test_work_runs_once_for_each_time_it_is_asked_for(cupy, machine):
    graphs, array, work = some_graphs(cupy)
    times(graphs, 5, work)
    assert array.get().tolist() == [5, 5, 5] and machine.launches == 4
    graphs.close()
    assert not graphs.graphs and machine.freed and machine.waits[-1].startswith("stream.synchronize")


def test_memory_that_runs_out_while_recording_leaves_no_graph(cupy, machine):
    graphs, array, work = some_graphs(cupy)
    times(graphs, 1, work)

    def with_little_memory():
        with pytest.raises(MemoryError):
            machine.most = 8
            cupy.ones(1000)
        machine.most = None
        work()

    times(graphs, 1, with_little_memory)  # the pool gave back what this recording wrote to
    assert not graphs.graphs and graphs.gave_back
    assert array.get().tolist() == [2, 2, 2] and machine.launches == 0


@pytest.mark.parametrize("error", [NotImplementedError("cuBLAS API during stream capture"), KeyboardInterrupt(),
                                   ValueError("a shape")])
def test_an_error_while_recording_ends_the_recording(cupy, machine, error):
    graphs, array, work = some_graphs(cupy)
    times(graphs, 1, work)

    def broken():
        if graphs.stream.is_capturing():
            raise error
        work()

    if isinstance(error, RuntimeError):  # a refusal: it goes on without
        with pytest.warns(RuntimeWarning, match="cuBLAS API during stream capture"):
            times(graphs, 3, broken)
        assert array.get().tolist() == [4, 4, 4]
    else:
        with pytest.raises(type(error)):
            times(graphs, 1, broken)
        assert array.get().tolist() == [1, 1, 1]
    assert not graphs.stream.is_capturing() and cupy.cuda.get_current_stream().ptr == 0
    assert not graphs.graphs


def test_work_that_failed_has_not_been_seen(cupy):
    graphs, array, work = some_graphs(cupy)

    def fails():
        raise ValueError

    with pytest.raises(ValueError):
        times(graphs, 1, fails)
    times(graphs, 1, work)
    assert not graphs.graphs and array.get().tolist() == [1, 1, 1]


def test_a_run_gives_back_what_its_steps_held(tmp_path, machine):
    before = machine.freed
    run(tmp_path / "run", choices=FUSED, max_steps=3)
    assert machine.freed > before and not [key for key in product.library().handles if key[1]]


def test_a_length_beyond_the_batch_is_refused():
    batch = make_batch([[4, 5]], [[5]])
    bucket = Bucket.of(batch.src, batch.tgt)
    vector = np.zeros(sum(map(math.prod, fields(bucket).values())), "int64")
    with pytest.raises(ValueError, match=r"lengths are \[3\], expected one from 1 to T = 2"):
        fill(views(vector, fields(bucket)), bucket, (12, 12), batch.src, np.array([3]), batch.tgt)


def launches(machine, steps, **choices):
    """How many launches a training step takes, of sentences of so many source and target tokens."""
    on_device = model(**{**FUSED, "dropout": 0.3, **choices})
    S, T = steps
    made = Trainer(on_device, tiny_run.data(), options(graphs=0), RunFolder("no folder"))
    batch = make_batch([[5] * S] * 8, [[5] * (T - 1)] * 8)
    counted = []
    for number in range(1, 3):  # the first makes what is kept
        before = machine.work
        made.steps.take([Part(0, batch)], 8, Place(number, 1, 8 * T), 1e-3)
        counted.append(machine.work - before)
    return counted[1]


def test_a_fused_step_has_few_launches(machine):
    """For each source token two there and, of each direction, two back; ten for each target token; some beside."""
    base = launches(machine, (8, 8))
    assert launches(machine, (12, 8)) - base == 4 * 6
    assert launches(machine, (8, 12)) - base == 4 * 10
    assert base - 8 * 6 - 8 * 10 <= 108
