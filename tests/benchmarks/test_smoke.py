"""Every benchmark runs at tiny sizes, its rows can be read, and what it refuses has a sentence."""

import contextlib
import csv
import importlib.util
import os
import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import ladder, limits, measure, rows, workers
from benchmarks.busy import taking
from benchmarks.clock import HostClock, Seconds
from benchmarks.gradients.nets import Net, recall
from benchmarks.gradients.paths import CUTS, changed
from benchmarks.ops import copied
from benchmarks.ours import Contestant, multi30k_batches
from benchmarks.scaling import exponent
from benchmarks.timeline import Line, Span, busy, draw, write
from scratchnmt.models.nmt import NMT
from scratchnmt.ops.plain import PLAIN
from scratchnmt.parameters import Parameters


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """main([...]) -> exit status, output, the rows that were written; the limits made up, to save seconds."""
    monkeypatch.setattr(limits, "measure", lambda *_: limits.Limits(1e11, None, 1e10, 1e-6))
    monkeypatch.setattr(measure, "REST", 0)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))  # restored when the test ends

    def run(*arguments):
        status = benchmarks.main([*map(str, arguments), "--out", str(tmp_path / "rows")])
        found = [row for path in sorted((tmp_path / "rows").glob("*.csv"))
                 for row in csv.DictReader(path.open(encoding="utf-8"))]
        return status, capsys.readouterr(), found

    return run


@pytest.mark.parametrize("lengths", ["half", "multi30k"])
def test_step(call, lengths):
    status, (out, _), found = call("step", "--size", "60,8,4,5", "--rounds", 2, "--peers", "", "--lengths", lengths)
    assert status == 0 and "GFLOP of matrix products" in out and "scratchnmt" in out
    (row,) = found
    assert row["command"] == "step" and row["contestant"] == "scratchnmt" and row["dtype"] == "float32"
    assert 0 < float(row["low_ms"]) <= float(row["ms"]) <= float(row["high_ms"]) and float(row["tokens_per_s"]) > 0
    assert row["bound"] == "sgemm" and 0 < float(row["share"]) < 1 and row["commit"] and "NumPy" in row["machine"]


def test_step_beside_pytorch(call):
    pytest.importorskip("torch")
    status, (out, _), found = call("step", "--size", "60,8,4,5", "--rounds", 2, "--peers",
                                   "workers,torch,torch-best,torch-graph")
    assert status == 0 and "loss and gradients agree with PyTorch at its best" in out
    assert [row["contestant"] for row in found] == ["scratchnmt", "scratchnmt, 2 workers", "PyTorch",
                                                    "PyTorch at its best", "PyTorch, a graph"]
    assert out.count("times as fast as the best of the others, PyTorch") == 2


def test_train(call, tmp_path):
    pytest.importorskip("torch")
    lines = [" ".join(f"w{(i + j) % 7}" for j in range(2 + i % 4)) for i in range(30)]
    for side in ("src", "tgt"):
        (tmp_path / side).write_text("\n".join(lines) + "\n")
    status, (out, _), found = call("train", "--train-src", tmp_path / "src", "--train-tgt", tmp_path / "tgt", "--vocab",
                                   "word", "--hidden", 8, "--batch-size", 4, "--pool", 2, "--seconds", 0.02, "--slices",
                                   1)
    assert status == 0 and out.count("loss and gradients agree with PyTorch") == 3
    assert [row["contestant"] for row in found] == [
        "scratchnmt", "scratchnmt, 2 workers", "PyTorch", "PyTorch at its best", "PyTorch at its best, 2 processes"]


def test_train_beside_joeynmt(call, tmp_path):
    pytest.importorskip("joeynmt")
    for side in ("src", "tgt"):
        (tmp_path / side).write_text("a b c\nb c a b\n" * 5)
    text = ["--train-src", tmp_path / "src", "--train-tgt", tmp_path / "tgt", "--vocab", "word"]
    status, _, found = call("train", *text, "--hidden", 8, "--batch-size", 4, "--seconds", 0.02, "--slices", 1,
                            "--peers", "joeynmt")
    assert status == 0 and [row["contestant"] for row in found] == ["scratchnmt", "JoeyNMT"]


SMALL = [part for letter in ["T=3", "S=3", "B=2", "N=4", "I=4", "O=3", "E=4", "H=4", "M=5", "A=4", "V=9"]
         for part in ("--size", letter)]


def test_every_op(call):
    status, (out, _), found = call("ops", *SMALL, "--rounds", 1, "--peers", "", "--dtype", "float64")
    assert status == 0 and "lstm_gates, B=2 H=4" in out
    names = {row["what"].rpartition(", ")[0].partition(",")[0] for row in found}
    assert {"lstm", "attention", "embedding", "tanh_dropout"} <= names
    assert {row["what"].rpartition(", ")[2] for row in found} == {"forward", "backward", "both"}
    assert all(float(row["gbyte"]) > 0 for row in found)


@pytest.mark.parametrize("peer, name", [("torch", "PyTorch"), ("keras", "Keras"), ("jax", "JAX"),
                                        ("onnxruntime", "ONNX Runtime")])
@pytest.mark.parametrize("directions", ["lstm", "lstm, two directions"])
def test_the_lstm_beside_that_of(peer, name, directions, call, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")  # read when keras is first imported
    for module in (peer, *({"keras": ["torch"], "onnxruntime": ["onnx"]}.get(peer, []))):
        pytest.importorskip(module)
    status, (out, _), found = call("ops", directions, *SMALL, "--rounds", 1, "--peers", peer)
    others = {row["contestant"] for row in found} - {"NumPy"}
    assert status == 0 and others and all(other.startswith(name) for other in others)


def test_arguments_that_take_turns(call):
    status, _, found = call("ops", "tanh", *SMALL, "--rounds", 1, "--peers", "", "--cold")
    assert status == 0 and len(found) == 9
    copies = copied({"x": np.ones(1 << 20), "rate": 0.5})
    assert len(copies) == 32 and copies[0]["x"] is not copies[1]["x"] and copies[1]["rate"] == 0.5


def test_a_sweep(call):
    _, _, found = call("ops", "tanh", *SMALL, "--rounds", 1, "--peers", "", "--sweep", "B")
    sizes = [row["sizes"] for row in found if row["what"] == "tanh, forward"]
    assert sizes == [f"B={n} I=4" for n in (1, 8, 32, 64, 128, 256)]


def test_the_ladder_on_a_cpu(call, monkeypatch):
    if shutil.which("g++") is None:
        pytest.skip("no g++ to run the kernels on the CPU")
    size = ladder.Size("ours", 25, 4, 16, layers=2, D=2, random_lengths=True)
    monkeypatch.setattr(ladder, "SIZES", {"ours": [size], "another": []})
    status, (out, _), found = call("ladder", "--sizes", "ours,another", "--peers", "")
    assert status == 0 and not found and "ours: T=6 B=1 H=4 layers=2 D=2" in out and "No times" in out
    assert re.findall(r"^v\d", out, re.MULTILINE) == ["v1", "v3", "v4", "v5"]


@pytest.mark.parametrize(("name", "directions", "told"), [
    ("torch", 2, "nn.LSTM, float32 agrees"), ("flashrnn", 1, "FlashRNN, vanilla agrees"),
    ("flashrnn", 2, "FlashRNN has one direction: it is left out")])
def test_the_ladder_beside_other_libraries(call, monkeypatch, name, directions, told):
    pytest.importorskip("torch")
    pytest.importorskip(name)
    monkeypatch.setattr(ladder, "kernels_on_cpu", contextlib.nullcontext)
    monkeypatch.setattr(ladder, "VERSIONS", ladder.VERSIONS[:1])
    monkeypatch.setattr(ladder, "SIZES", {"ours": [ladder.Size("ours", 9, 30, 70, layers=2, D=directions)]})
    status, (out, _), _ = call("ladder", "--sizes", "ours", "--peers", name)
    assert status == 0 and told in out


def test_a_peer_of_the_ladder_that_computes_something_else_is_left_out(call, monkeypatch):
    pytest.importorskip("torch")
    from benchmarks import ladder_peers

    right = ladder_peers.lstm_of
    monkeypatch.setattr(ladder_peers, "lstm_of", lambda weights: right({**weights, "b0": weights["b0"] + 0.1}))
    monkeypatch.setattr(ladder, "kernels_on_cpu", contextlib.nullcontext)
    monkeypatch.setattr(ladder, "VERSIONS", ladder.VERSIONS[:1])
    status, (out, _), _ = call("ladder", "--sizes", "appleyard")
    assert status == 0 and "disagrees by" in out and "it is left out" in out


def test_a_peer_of_the_ladder_that_fails_is_left_out(call, monkeypatch):
    pytest.importorskip("torch")
    from benchmarks import ladder_peers

    def fail(*what):
        raise RuntimeError("nvcc was not found")

    monkeypatch.setattr(ladder_peers, "passes", fail)
    monkeypatch.setattr(ladder, "kernels_on_cpu", contextlib.nullcontext)
    monkeypatch.setattr(ladder, "VERSIONS", ladder.VERSIONS[:1])
    status, (out, _), _ = call("ladder", "--sizes", "appleyard")
    assert status == 0 and "fails, and is left out: RuntimeError: nvcc was not found" in out


@pytest.mark.parametrize(("arguments", "message"), [
    (("--sizes", "ours,small"), "--sizes has 'small', expected some of ours, flashrnn"),
    (("--peers", "jax"), "--peers has 'jax', expected some of numpy, torch, flashrnn")])
def test_the_ladder_names_what_it_does_not_know(call, arguments, message):
    status, (_, err), _ = call("ladder", *arguments)
    assert status == 2 and message in err


def test_the_ladder_times_nothing_that_is_wrong(call, monkeypatch):
    monkeypatch.setattr(ladder, "kernels_on_cpu", contextlib.nullcontext)
    wrong = lambda matmul: PLAIN._replace(lstm_gates=SimpleNamespace(
        lstm_gates_forward=lambda z, c_prev, **out: PLAIN.lstm_gates.lstm_gates_forward(1.001 * z, c_prev, **out),
        lstm_gates_backward=PLAIN.lstm_gates.lstm_gates_backward))
    monkeypatch.setattr(ladder, "VERSIONS", [*ladder.VERSIONS[:1], ladder.Version("v9 wrong", wrong)])
    status, (_, err), _ = call("ladder", "--peers", "")
    assert status == 2 and "v9 wrong is not v0 array code; nothing is timed" in err


def test_the_ladder_needs_a_compiler(call, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    status, (_, err), _ = call("ladder")
    assert status == 2 and "install g++, work in the repository's folder, or choose --device cuda" in err


def test_profile(call, tmp_path):
    status, (out, _), _ = call("profile", "--size", "60,8,4,5", "--rounds", 1)
    assert status == 0
    for part in ("encoder: products forward", "decoder: weights' gradients", "vocabulary: products", "Adam", "norm",
                 "LSTM gates", "attention: steps", "embedding", "indexing, sums, Python"):
        assert part in out
    assert "other products" not in out
    assert (tmp_path / "rows" / "profile.png").exists()


def test_tricks(call):
    status, (out, _), _ = call("tricks", "--size", "60,8,4,5", "--rounds", 1)
    assert status == 0 and len(re.findall(r"^\w+.*\d\.\d\d$", out, re.MULTILINE)) == 9


def test_scaling(call):
    status, (out, _), found = call("scaling", "--letter", "B", "--letter", "H", "--base", "60,8,4,5", "--points", 2,
                                   "--rounds", 1, "--peers", "")
    assert status == 0 and "scratchnmt: time grows as B^" in out and "from H = 64 to 128" in out
    assert [row["what"] for row in found] == ["training step by B"] * 2 + ["training step by H"] * 2


def test_the_exponent_of_growth():
    assert exponent([(n, 3 * n**1.5) for n in (1, 2, 4, 8)]) == pytest.approx(1.5) and np.isnan(exponent([(1, 2)]))


def made_rows(folder, scale=1.0):
    """Rows as several commands would write them, of a CPU and of a GPU."""
    bounds = limits.Limits(1e11, None, 1e10, 1e-6)
    turns = lambda ms: [Seconds(ms / 1e3, ms / 1e3 * k) for k in (0.99, 1, 1.01)]
    found = []
    for device, contestant, speed in (("a CPU", "NumPy", 1), ("a card", "CuPy, fused", 30)):
        for B in (1, 8, 64):
            ms = scale * (0.5 + B / speed)
            found.append(rows.row(turns(ms), command="ops", what="lstm, both", contestant=contestant, device=device,
                                  dtype="float32", sizes=f"B={B} H=8", flop=1e6 * B, bytes=1e5 * B, limits=bounds))
    for n in (32, 64, 128):
        found.append(rows.row(turns(scale * n), command="scaling", what="training step by B", contestant="scratchnmt",
                              device="a CPU", dtype="float32", sizes=f"V=60 H=8 B={n} T=5"))
        found.append(rows.Row("memory", "peak of a step", "scratchnmt", "a CPU", "float32", f"V=60 H=8 B={n} T=5", "",
                              "", "", gbyte=n / 100))
    for device, contestant in (("a card", "v1 fused gates"), ("a CPU", "v0 array code, NumPy")):
        found.append(rows.row(turns(scale), command="ladder", what="LSTM, both", contestant=contestant, device=device,
                              dtype="float32", sizes="T=25 B=64 H=256 layers=1 D=2"))
    for command in dict.fromkeys((row.command, row.device) for row in found):
        rows.write([row for row in found if (row.command, row.device) == command], folder, bounds)


def test_report(call, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    made_rows(tmp_path / "made")
    assert benchmarks.main(["report", str(tmp_path / "made")]) == 0
    assert "15 rows" not in capsys.readouterr().out
    text = (tmp_path / "made" / "report.md").read_text()
    for picture in ("speed-up", "roofline", "scaling", "memory", "ladder"):
        assert f"![{picture}]({picture}.svg)" in text
        assert (tmp_path / "made" / f"{picture}.png").stat().st_size > 5000
    assert "## ops, a card" in text and "| lstm, both | CuPy, fused | B=64 H=8 |" in text and "% of sgemm" in text


def test_compare(tmp_path, capsys):
    for name, scale in (("old", 1.0), ("same", 1.001), ("slow", 1.3)):
        made_rows(tmp_path / name, scale)
    compare = lambda *names: benchmarks.main(["compare", *(str(tmp_path / name) for name in names)])
    assert compare("old", "same") == 0 and "0 slower, 0 faster, 11 within the noise" in capsys.readouterr().out
    assert compare("old", "slow") == 1 and "11 slower" in capsys.readouterr().out
    assert compare("slow", "old") == 0 and "0.77  faster" in capsys.readouterr().out
    assert compare("old", "nowhere") == 2 and "nowhere" in capsys.readouterr().err


def test_memory_and_decode(call):
    pytest.importorskip("torch")
    assert call("memory", "--vocab", 200, "--hidden", 8, "--steps", 4, "--batch", 3, "--peers", "")[0] == 0
    status, (out, _), found = call("decode", "--random-size", "50,8,6,4", "--rounds", 1, "--sample", 2, "--check", 2,
                                   "--max-steps", 5, "--beam", 1, "--beam", 3, "--batch-size", 4)
    assert status == 0 and out.count("2 of 2 translations are those of PyTorch") == 4 and "beam 3, 4 at a time" in out
    assert [(row["contestant"], row["sizes"][-3:]) for row in found[:7]] == [
        ("scratchnmt", "B=4"), ("scratchnmt", "B=1"), ("scratchnmt, 2 workers", "B=4"),
        ("scratchnmt, 2 workers", "B=1"), ("PyTorch", "B=1"), ("PyTorch at its best", "B=4"),
        ("PyTorch at its best", "B=1")]
    assert out.count("2 of 2 translations are those of scratchnmt, 2 workers") == 2
    assert {row["command"] for row in found} == {"decode", "memory"}


@pytest.mark.parametrize("arguments, message", [
    (["ops", "tanh", "--size", "B=none"], "--size is 'B=none', expected one of the letters T, S, B"),
    (["ops", "tanh", "--sweep", "V"], "no operation of that name has that size"),
    (["scaling", "--base", "60,8,4,5,6"], "--base is '60,8,4,5,6', expected four numbers, V,H,B,T"),
    (["calls", "--size", "60,8,x,5"], "--size is '60,8,x,5', expected four numbers, V,H,B,T"),
    (["ranks", "--sizes", "60"], "--sizes is '60', expected two numbers, V,H"),
    (["gradients", "--only", "flow"], "--only 'flow' is not known: expected some of recurrent, paths"),
    (["step", "--peers", "chainer"], "peer chainer: No module named 'benchmarks.peer_chainer'"),
    (["fit", "--peers", "chainer"], "peer chainer has no fit here: expected some of keras-torch, keras-jax"),
    (["timeline"], "timeline shows what a GPU does: choose --device cuda"),
    (["systems", "--system", "moses"], "no system is called 'moses'"),
    (["step", "--device", "tpu"], "device 'tpu' is not known"),
])
def test_what_is_refused(call, arguments, message):
    status, (_, err), found = call(*arguments)
    assert status == 2 and f"benchmarks: error: {message}" in err and not found


def test_results_that_disagree_are_not_timed(call, monkeypatch):
    from benchmarks import ops

    monkeypatch.setattr(ops, "ways_to_compute", lambda case, *_: [
        ops.Op("NumPy", case.forward, case.backward),
        ops.Op("wrong", case.forward, lambda dy, cache: case.backward(1.01 * dy, cache))])
    with pytest.raises(ValueError, match="wrong disagrees with the plain operation in float64 by 1.0e-02; nothing"):
        call("ops", "sigmoid", *SMALL, "--rounds", 1)


def test_a_row_counts_against_the_bound_that_applies():
    seconds = [Seconds(0.001, s) for s in (0.01, 0.02, 0.04)]
    bounds = limits.Limits(sgemm=1e10, tf32=1e11, copy=1e9, launch=1e-6)
    names = dict(command="c", what="w", contestant="x", device="d", dtype="float32", sizes="")
    of_products = rows.row(seconds, flop=1e8, bytes=1e6, limits=bounds, tokens=50, **names)
    assert (of_products.ms, of_products.host_ms, of_products.bound, of_products.share) == (20, 1, "sgemm", 0.5)
    assert (of_products.gflop_per_s, of_products.tokens_per_s) == (5, 2500)
    in_tf32 = rows.row(seconds, flop=1e8, bytes=1e7, limits=bounds, matmul="tf32", **names)
    assert (in_tf32.bound, in_tf32.share, in_tf32.gbyte_per_s) == ("copy", 0.5, 0.5)


def test_a_measurement_that_is_repeated_replaces_its_row(tmp_path):
    make = lambda ms, sizes: rows.row([Seconds(ms, ms)], command="c", what="w", contestant="x", device="d",
                                      dtype="float32", sizes=sizes)
    rows.write([make(1, "B=1"), make(2, "B=2")], tmp_path)
    path = rows.write([make(3, "B=2"), make(4, "B=3")], tmp_path)
    assert [(row["sizes"], float(row["ms"])) for row in csv.DictReader(path.open(encoding="utf-8"))] == [
        ("B=1", 1000), ("B=2", 3000), ("B=3", 4000)]


def test_limits_of_this_machine():
    found = limits.measure("cpu", size=64, copied=1 << 16)
    assert found.sgemm > 1e8 and found.copy > 1e7 and 0 < found.launch < 1e-3 and found.tf32 is None
    assert "GFLOP/s; copy " in str(found)


def test_contestants_take_turns_and_a_clock_counts_all_calls():
    called = []
    times = measure.alternate({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, 2, warmup=1, calls=2)
    assert "".join(called) == "bbaa" + "aabb" + "bbaa" and len(times["a"]) == 2
    assert HostClock().time(lambda: None).host >= 0


def test_batches_with_the_lengths_of_multi30k():
    batches = multi30k_batches(50, 64, 8)
    src, tgt = (np.concatenate([getattr(b, name) for b in batches]) for name in ("src_lengths", "tgt_lengths"))
    assert 13 < src.mean() < 16 and 14 < tgt.mean() < 17 and tgt.min() >= 1 and src.max() <= 46


def test_a_contestants_step_is_that_of_training():
    contestant, (batch,) = Contestant(NMT(50, 50, 8, 8)), multi30k_batches(50, 4, 1)
    losses = [contestant.step_loss(batch) for _ in range(20)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("peers, names", [("", []), ("keras-torch", ["Keras on PyTorch"]),
                                          ("keras-jax", ["Keras on JAX"])])
def test_fit(call, peers, names):
    for module in ("keras", peers.removeprefix("keras-")) if peers else ():
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not there")
    status, (out, _), found = call("fit", "--size", "4,3,5,6", "--rounds", 1, "--peers", peers)
    assert status == 0 and "losses of the first 20 steps" in out
    assert [row["contestant"] for row in found] == ["scratchnmt", *names]


def test_local(call):
    status, (out, _), found = call("local", "--sizes", "4,2,3", "--window", 1, "--points", 2, "--rounds", 1)
    assert status == 0 and len(found) == 16
    assert {row["contestant"] for row in found} == {"global", "local-m", "local-p", "multi-head"} and "S 50" in out


def test_ranks(call, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("torch")
    status, (out, _), found = call("ranks", "--sizes", "60,8", "--rounds", 1, "--steps", 2, "--peers", "torch-best")
    assert status == 0 and "64 sentences in all; a pass over 1,000,000,000 pairs" in out
    assert {row["contestant"] for row in found} == {"1 workers", "2 workers", "2 threads", "PyTorch at its best"}
    assert out.count("scratchnmt, 2 workers is ") == 3
    parts = {row["what"]: float(row["ms"]) for row in found if row["sizes"] == "V=60 H=8 B=64 multi30k"
             and row["contestant"] == "2 workers"}
    assert 0 < parts["compute"] < parts["step"] and {"wait", "sum", "update"} < set(parts)
    assert (tmp_path / "rows" / "ranks.png").stat().st_size > 1000


def test_busy(call, tmp_path, capsys):
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    status, (out, _), found = call("busy", "--size", "60,8,4,5", "--taken", 0, "--taken", 1, "--rounds", 1, "--seconds",
                                   0.02, "--peers", "workers,torch-best", "--pin", "--own-session")
    assert status == 0 and "1 cores taken: scratchnmt is " in out and len(found) == 2 * (3 + 3 + 3)
    assert benchmarks.main(["report", str(tmp_path / "rows")]) == 0
    assert (tmp_path / "rows" / "busy.png").stat().st_size > 5000
    assert {row["sizes"].partition("taken=")[2] for row in found} == {"0 pinned apart", "1 pinned apart"}


@pytest.mark.parametrize("own_session", [False, True])
def test_the_other_program_of_busy_may_have_a_session_of_its_own(own_session, monkeypatch):
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    with taking(1, False, own_session):
        assert (os.getsid(started[0].pid) != os.getsid(0)) == own_session
    assert started[0].poll() is not None


def test_the_model_of_a_step_by_many_workers():
    network = workers.Network("", 1e9, 1e-5)
    costs = workers.Costs(fixed=0.02, each=0.005, update=0.016, sum=0.006, bytes=10**7)
    assert workers.fit([(n, costs.compute(n)) for n in (8, 64, 128)]) == pytest.approx((0.02, 0.005))
    assert costs.step(1, 64, network) == pytest.approx(0.02 + 64 * 0.005 + 0.016)
    assert costs.step(2, 32, network) == pytest.approx(0.02 + 32 * 0.005 + 0.016 / 2 + 0.006)
    # four machines of eight
    many = 0.02 + 32 * 0.005 + 0.016 / 8 + 0.006 / 2 * 8 + 2 * 3 / 4 * 1e7 / 1e9 + 2 * 2 * 1e-5
    assert costs.step(32, 32, network) == pytest.approx(many)
    weak, strong = workers.Way(64, False), workers.Way(64, True)
    assert weak.gain(costs, 1, network) == strong.gain(costs, 1, network) == 1
    assert strong.gain(costs, 2, network) == pytest.approx(costs.step(1, 64, network) / costs.step(2, 32, network))
    assert weak.gain(costs, 2, network) == pytest.approx(2 * costs.step(1, 64, network) / costs.step(2, 64, network))


def test_systems(call, tmp_path):
    for package in ("sacrebleu", "safetensors", "matplotlib", "threadpoolctl"):
        pytest.importorskip(package)
    names = ["general, output fed: CS224N", "no attention, one direction"]
    status, (out, _), _ = call("systems", "--train", 60, "--test", 30, "--epochs", 1, "--hidden", 8,
                               *(part for name in names for part in ("--system", name)))
    assert status == 0 and "BLEU by words of the source" in out
    found = list(csv.DictReader((tmp_path / "rows" / "systems.csv").open(encoding="utf-8")))
    assert {row["system"] for row in found} == {*names}
    assert [int(row["sentences"]) for row in found if row["words"] == "all"] == [30, 30]
    assert (tmp_path / "rows" / "systems.png").stat().st_size > 1000


def test_the_timeline(tmp_path):
    spans = [Span("ampere_sgemm_64", 10, 20), Span("void lstm_gates_forward<float>", 15, 30), Span("cupy_add", 50, 60)]
    line = Line("fused", spans, start=8)
    assert [span.kind for span in spans] == ["products", "LSTM gates", "other"]
    assert line.length == 52 and line.idle == pytest.approx(22 / 52)
    edges, share = busy(line, "LSTM gates")
    assert (share * np.diff(edges)).sum() == pytest.approx(15) and share[-1] == 0
    write([line], tmp_path / "t.csv")
    assert "fused,LSTM gates,void lstm_gates_forward<float>,7,22" in (tmp_path / "t.csv").read_text()
    pytest.importorskip("matplotlib")
    draw([line, line], [tmp_path / "t.png", tmp_path / "t.svg"], "a card")
    assert (tmp_path / "t.png").stat().st_size > 1000 and "<svg" in (tmp_path / "t.svg").read_text()[:500]


def test_gradients(call, tmp_path):
    pytest.importorskip("matplotlib")
    status, (out, _), _ = call("gradients", "--steps", 2)
    assert status == 0 and "a step back, untrained" in out and "norm, of the best of these" in out
    for part in ("recurrent", "paths", "truncated", "clipping"):
        found = list(csv.DictReader((tmp_path / "rows" / f"gradients-{part}.csv").open(encoding="utf-8")))
        assert len(found) > 20 and all(np.isfinite(float(row["y"])) for row in found)
        assert (tmp_path / "rows" / f"gradients-{part}.png").stat().st_size > 1000


@pytest.mark.parametrize("bias", [None, 0.0, 1.0])
def test_gradients_of_the_small_networks(bias, gradcheck):
    words, targets = next(recall(4, 3, seed=0))
    net = Net(9, 3, bias)

    def loss(params):
        net.params = Parameters(net.params.shapes, flat=np.concatenate([array.ravel() for array in params.values()]))
        return net.forward(words, targets)[0]

    def grads(params):
        loss(params)
        return net.backward(net.forward(words, targets)[1])[0]

    gradcheck.assert_directional(loss, grads, dict(net.params))


@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS)
def test_the_textbook_without_a_path_has_the_right_gradient(cuts, gradcheck):
    model, (src, tgt) = changed(cuts), ([4, 3, 5], [1, 6, 3, 2])
    gradcheck.assert_directional(lambda params: model.forward(params, src, tgt)[0],
                                 lambda params: model.backward(params, model.forward(params, src, tgt)[1]),
                                 model.new_params(6, 7, 3, 4, np.random.default_rng(0)))


def test_a_truncated_gradient_is_that_of_the_pieces():
    words, targets = next(recall(6, 3, seed=0))
    net = Net(9, 3, 1.0)
    _, cache = net.forward(words, targets)
    whole, kept = net.backward(cache, keep=6), net.backward(cache, keep=2)
    np.testing.assert_array_equal(whole[0].flat, net.backward(cache)[0].flat)
    assert (whole[2][:-1] > 0).all() and (kept[2][:4] == 0).all() and kept[2][4] > 0
