"""Branches of a recorded step: the numbers are those without, and each way to get them wrong is found."""

import inspect

import numpy as np
import pytest
from test_recorded_steps import FUSED, times, trainer
from training.tiny_run import run

from scratchnmt.kernels import branches, fused
from scratchnmt.kernels.graph import Graphs
from scratchnmt.kernels.product import library
from scratchnmt.ops.branches import branch, directions
from scratchnmt.ops.plain import PLAIN
from scratchnmt.training import NotFiniteError

LAUNCHES = 4  # as late and as early as it can be, in turns


def change(monkeypatch, right, wrong):
    """Have the branches of a GPU with another line."""
    text = inspect.getsource(branches.branch)
    assert text.count(right) == 1
    made = dict(vars(branches))
    exec(text.replace(right, wrong), made)
    monkeypatch.setattr(branches, "branch", made["branch"])


def repeated(cupy, work):
    """y after each of the runs of work(x, y), of which the first is not recorded, and how many graphs there are."""
    x, y, graphs, found = cupy.asarray([1.0, 2, 3]), cupy.zeros(3), Graphs(1), []
    for _ in range(1 + LAUNCHES):
        times(graphs, 1, lambda: work(x, y))
        found.append(y.get())
    return found, len(graphs.graphs)


def add(out, *arrays):
    for array in arrays:
        out += array


def forks_and_joins(cupy):
    """Work that has all that a branch must keep apart: 2 (x + 1) from a branch and 3 (x + 1) beside it."""
    def work(x, y):
        doubled, read = cupy.zeros(3), x + 1
        with branches.branch() as beside:
            beside(add, doubled, read, read)
            y[...] = 3 * read
            del read
            cupy.ones(3)  # something else is launched
        y += doubled
    return work


RIGHT = [10.0, 15, 20]


def test_a_branch_gives_what_its_work_gives(cupy, machine):
    found, graphs = repeated(cupy, forks_and_joins(cupy))
    assert graphs == 1 and machine.launches == LAUNCHES
    np.testing.assert_array_equal(found, [RIGHT] * (1 + LAUNCHES))


def test_arguments_that_are_not_held_are_found(cupy, monkeypatch):
    change(monkeypatch, "held.append((work, arguments))", "held.append(work)")
    found, graphs = repeated(cupy, forks_and_joins(cupy))
    assert graphs == 1 and np.isnan(found[1]).all(), "what the branch read was others' by then"


@pytest.mark.parametrize("line, message", [
    ("            follow(main, side)", "cudaErrorStreamCaptureUnjoined: capturing stream has unjoined work"),
    ("        follow(side, main)", "cudaErrorStreamCaptureIsolation"),
], ids=["no join", "no fork"])
def test_a_branch_that_does_not_fork_or_join_is_refused(line, message, cupy, monkeypatch):
    change(monkeypatch, line, line.replace(line.strip(), "pass"))
    with pytest.warns(RuntimeWarning, match=message):
        found, graphs = repeated(cupy, forks_and_joins(cupy))
    assert not graphs
    np.testing.assert_array_equal(found, [RIGHT] * (1 + LAUNCHES))


def test_a_fork_that_comes_too_soon_is_found(cupy, monkeypatch):
    change(monkeypatch, "        follow(side, main)", "        len(held) == 1 and follow(side, main)")

    def work(x, y):
        doubled = cupy.zeros(3)
        with branches.branch() as beside:
            beside(add, doubled)  # it forks here, before what it reads is there
            read = x + 1
            beside(add, doubled, read, read)
        y[...] = doubled

    found, graphs = repeated(cupy, work)
    assert graphs == 1 and np.isnan(found[2]).all()  # as early as it can be


@pytest.mark.parametrize("wrong", ["reads", "writes"])
def test_what_a_branch_has_in_hand_is_left_alone_until_it_is_joined(wrong, cupy):
    def work(x, y):
        doubled, read = cupy.zeros(3), x + 1
        with branches.branch() as beside:
            beside(add, doubled, read, read)
            if wrong == "reads":
                y[...] = doubled
            else:
                read *= 0
        if wrong == "writes":
            y[...] = doubled

    found, graphs = repeated(cupy, work)
    np.testing.assert_array_equal(found[0], [4, 6, 8])  # one after another it is no mistake
    assert graphs == 1 and not found[1].any(), "as late as it can be"


def test_branches_that_are_open_at_once_have_streams_of_their_own(cupy):
    streams, graphs = [], Graphs(1)

    def note(depth):
        streams.append(cupy.cuda.get_current_stream())
        if depth:
            with branches.branch() as beside, branches.branch() as beside_it, branches.branch() as nowhere:
                for one in (beside, beside_it, nowhere):
                    one(note, 0)

    times(graphs, 1, lambda: note(1))
    main, first, second, third = streams
    assert main is third is graphs.stream and {first.ptr, second.ptr} == {side.ptr for side in graphs.sides}
    assert first.ptr != second.ptr and first.is_non_blocking and second.is_non_blocking


def test_an_error_in_a_branch_leaves_nothing_open(cupy):
    def fails():
        raise KeyError("in a branch")

    def work(x, y):
        with branches.branch() as beside:
            beside(fails)

    graphs = Graphs(1)
    with pytest.raises(KeyError):
        times(graphs, 1, lambda: work(None, None))
    assert len(branches._free[graphs.stream.ptr]) == branches.BRANCHES and cupy.cuda.get_current_stream().ptr == 0


def test_elsewhere_there_are_no_branches(cupy):
    order, graphs = [], Graphs(0)

    def note(what):
        order.append((what, cupy.cuda.get_current_stream().ptr))

    def work():
        with branch(fused()) as beside:
            beside(note, "beside")
            note("here")

    work()
    times(graphs, 1, work)
    with branch(PLAIN) as beside:
        beside(note, "plain")
    assert order == [("beside", 0), ("here", 0), ("beside", graphs.stream.ptr), ("here", graphs.stream.ptr),
                     ("plain", 0)]
    assert directions(2, PLAIN) == [slice(None)] and directions(2, fused()) == [slice(0, 1), slice(1, 2)]


def test_a_training_step_has_two(machine):
    """A direction of the encoder's way back, and the decoder's weights; the rest is on the stream that is recorded."""
    made = trainer()
    for _ in range(8):
        made.step()
    graphs = made.steps.graphs
    for bucket, graph in graphs.graphs.items():
        calls = {stream: len(calls) for stream, calls in graph._recording.streams.items()}
        directions, weights = sorted(calls[side.ptr] for side in graphs.sides)
        assert {directions, weights} == {2 * bucket[0].S, 6} and calls[graphs.stream.ptr] > 100
    handles = {stream for _, stream, _ in library().handles}
    assert handles >= {graphs.stream.ptr, *(side.ptr for side in graphs.sides)}


def test_a_step_whose_branches_hold_nothing_is_found(tmp_path, machine, monkeypatch):
    change(monkeypatch, "held.append((work, arguments))", "held.append(work)")
    with pytest.raises(NotFiniteError, match="the gradient's norm is nan"):
        run(tmp_path / "run", choices=FUSED)
    assert machine.launches


def test_one_constant_takes_them_away(machine, monkeypatch):
    monkeypatch.setattr(branches, "BRANCHES", 0)
    assert directions(2, fused()) == [slice(None)]
    made = trainer()
    for _ in range(8):
        made.step()
    graphs = made.steps.graphs
    assert not graphs.sides and {len(graph._recording.streams) for graph in graphs.graphs.values()} == {1}
