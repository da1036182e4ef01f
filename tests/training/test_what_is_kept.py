"""What is left of a run that was killed, or met a full disk or too little memory: see docs/trust.md."""

import contextlib
import errno
import io
import os
import re
import traceback
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_run import PER_EPOCH, At, Killed, essence, files, kill, options, press_ctrl_c, run

from scratchnmt import checkpoint
from scratchnmt.cli import demo, main, prepare
from scratchnmt.cli import train as train_command
from scratchnmt.data.toy import toy_corpus
from scratchnmt.errors import InputError, OutOfMemoryError, WriteError
from scratchnmt.files import atomic, run_folder, tensors
from scratchnmt.files.lock import LOCK, FolderLock
from scratchnmt.files.run_folder import BEST_STATE, METRICS, MODEL, STATE, RunFolder
from scratchnmt.files.tensors import read_tensors

pytest.importorskip("safetensors")
pytest.importorskip("sacrebleu")


# killed

def test_a_run_killed_before_its_first_save_begins_again(tmp_path, monkeypatch):
    run(tmp_path / "whole", max_steps=4)
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "write_tensors", lambda *_, **how: kill())
        for resume in (False, True):
            with pytest.raises(Killed):
                run(tmp_path / "killed", max_steps=4, resume=resume)
    assert not (tmp_path / "killed" / "training-state.safetensors").exists()
    run(tmp_path / "killed", resume=True, max_steps=4)
    assert essence(tmp_path / "killed") == essence(tmp_path / "whole")


def test_what_a_killed_save_has_left_is_swept_away(tmp_path):
    run(tmp_path, max_steps=2)
    for name in (".training-state.safetensors.tmp", ".config.json.4711.tmp", ".metrics.jsonl.1-0a2b3c4d.tmp"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / ".corpus.1.tmp").mkdir()
    (tmp_path / ".corpus.1.tmp" / "ids.bin").write_bytes(b"half")
    (tmp_path / ".notes.tmp").write_text("not ours")
    run(tmp_path, resume=True, max_steps=3)
    assert [path.name for path in tmp_path.glob(".*.tmp")] == [".notes.tmp"]


# a disk that is full, a folder that vanishes

@pytest.mark.parametrize("why", [errno.ENOSPC, errno.EDQUOT, errno.EROFS], ids=errno.errorcode.get)
@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("name", ["model.safetensors", "training-state.safetensors", "metrics.jsonl"])
def test_a_full_disk_stops_the_run_with_the_last_state_intact(tmp_path, monkeypatch, function, name, why):
    run(tmp_path / "whole", max_epochs=3)
    original = getattr(os, function)

    def full(what, *rest):
        target = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else os.fspath(what)
        if name in target and armed:
            raise OSError(why, os.strerror(why))
        return original(what, *rest)

    monkeypatch.setattr(os, function, full)
    armed = []
    last = 2 * PER_EPOCH if name == "model.safetensors" else PER_EPOCH  # which is written after its state
    with pytest.raises(WriteError, match=rf"{name} cannot be written: .*{os.strerror(why)}.*: training stopped; the "
                       rf"last good state is kept in {tmp_path}/run, of step {last}, the best model is that of step "
                       rf"{PER_EPOCH}.*resume it"):
        run(tmp_path / "run", max_epochs=3, progress=At(PER_EPOCH + 2, lambda: armed.append(1)))
    monkeypatch.undo()
    assert not list((tmp_path / "run").glob(".*.tmp"))
    run(tmp_path / "run", resume=True, max_epochs=3)
    assert essence(tmp_path / "run") == essence(tmp_path / "whole")


@pytest.mark.parametrize("killed", [False, True])
def test_a_disk_that_is_still_full_at_the_resume_tells_what_is_kept(tmp_path, monkeypatch, killed):
    if killed:  # the state of a best validation is saved, its model is not
        monkeypatch.setattr(run_folder.RunFolder, "save_weights", lambda *_: kill())
    with pytest.raises(Killed) if killed else contextlib.nullcontext():
        run(tmp_path, max_epochs=1)
    monkeypatch.undo()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(WriteError, match="No space left: training stopped; the last good state is kept in "
                       rf"{tmp_path}, of step {PER_EPOCH}; when that is mended, resume it"):
        run(tmp_path, resume=True, max_epochs=2)


@pytest.mark.parametrize("at, step", [(1, 0), (5, 8)])
def test_a_save_that_is_in_its_place_and_could_not_be_flushed_is_told_by_its_own_step(tmp_path, monkeypatch, at, step):
    saves, flush = [], atomic.flush_to_disk

    def failing(path):
        if (tmp_path / "run" / STATE).exists() and Path(path) == tmp_path / "run":
            saves.append(path)
            if len(saves) >= at:
                raise OSError(5, "Input/output error")
        flush(path)

    monkeypatch.setattr(atomic, "flush_to_disk", failing)
    told = rf"{STATE} was written, but may be gone .* the last good state is kept .*, of step {step};"
    with pytest.raises(WriteError, match=told):
        run(tmp_path / "run", max_steps=9, save_every=2, valid_every=100)
    assert read_tensors(tmp_path / "run" / STATE)[1]["state"]["step"] == step


def test_ctrl_c_on_a_full_disk_tells_what_is_kept(tmp_path, monkeypatch):
    fsync = os.fsync

    def stop_with_a_full_disk():
        monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
        press_ctrl_c()

    with pytest.raises(WriteError, match=rf"No space left.*the last good state is kept in .*, of step {PER_EPOCH}"):
        run(tmp_path / "run", progress=At(PER_EPOCH + 1, stop_with_a_full_disk))
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(InputError, match="No space left"):
        run(tmp_path / "new")
    monkeypatch.setattr(os, "fsync", fsync)


def test_a_first_save_that_fails_claims_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "write_tensors",
                        lambda path, *_, **how: (_ for _ in ()).throw(WriteError(f"{path} cannot")))
    with pytest.raises(WriteError, match="training stopped; nothing was saved yet in"):
        run(tmp_path)


def test_memory_that_ends_before_a_step_claims_nothing(tmp_path, monkeypatch):
    """There may be the corpus in the folder, or the saves of the run that was to go on."""
    monkeypatch.setattr("scratchnmt.optim.Adam.__init__", lambda *_, **__: np.zeros(1 << 58))
    with pytest.raises(OutOfMemoryError, match="; no step was taken$"):
        run(tmp_path)


def test_a_config_that_is_touched_while_a_run_goes_on_does_not_stop_it(tmp_path):
    run(tmp_path / "whole")
    path = tmp_path / "run" / "config.json"
    touch = lambda: path.write_text(path.read_text().replace('"clip": 5.0', '"clip": 9.0'))
    run(tmp_path / "run", progress=At(9, touch))
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("\n") == 3
    with pytest.raises(InputError, match="config.json is damaged"):
        run(tmp_path / "run", resume=True, max_epochs=4)


def test_the_lock_is_gone_when_a_run_is_over_and_so_is_a_folder_that_nothing_was_written_to(tmp_path):
    run(tmp_path / "run", max_steps=1)
    assert not (tmp_path / "run" / LOCK).exists()
    with pytest.raises(ZeroDivisionError), FolderLock(tmp_path / "new"):
        raise ZeroDivisionError
    assert not (tmp_path / "new").exists()


def test_another_optimizer_is_told_before_its_moments_are_missed(tmp_path):
    run(tmp_path, max_steps=2)
    with pytest.raises(InputError, match="optimizer was adam, is now sgd"):
        run(tmp_path, resume=True, optimizer="sgd")


def test_too_little_memory_is_not_called_damage(tmp_path, monkeypatch):
    run(tmp_path, max_steps=1)
    monkeypatch.setattr(tensors, "_tensors",
                        lambda *_: (_ for _ in ()).throw(MemoryError("Unable to allocate 1 GiB")))
    with pytest.raises(MemoryError, match="Unable to allocate"):
        checkpoint.load_model(tmp_path)


def test_a_folder_that_vanishes_is_named(tmp_path):
    def vanish():
        for path in (tmp_path / "run").iterdir():
            path.unlink()
        (tmp_path / "run").rmdir()

    with pytest.raises(InputError, match="run.*(cannot be written|does not exist)"):
        run(tmp_path / "run", progress=At(PER_EPOCH + 1, vanish))


def test_a_lock_tells_the_number_of_its_process_which_another_container_may_have_too(tmp_path):
    with (FolderLock(tmp_path), pytest.raises(InputError, match=rf"in use by another run \(process {os.getpid()}, "
                                              "which is this one's number, too"), FolderLock(tmp_path)):
        pass


def test_the_best_model_is_told_by_its_own_step_where_its_state_cannot_be_kept(tmp_path, monkeypatch):
    def full(path, to):
        raise WriteError(f"{to} cannot be written: No space left")

    def fill():
        monkeypatch.setattr(run_folder, "copy_file", full)

    with pytest.raises(WriteError, match=rf"of step {2 * PER_EPOCH}, the best model is that of step {2 * PER_EPOCH};"):
        run(tmp_path, max_epochs=3, progress=At(PER_EPOCH + 2, fill))
    best = checkpoint.load_model(tmp_path).model.params.flat
    np.testing.assert_array_equal(best, read_tensors(tmp_path / STATE)[0]["params"])


def test_a_picture_that_was_not_drawn_is_not_told_of(tmp_path, draws, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    assert run(tmp_path, max_steps=2).curves == tmp_path / "learning-curves.png"

    def full(*_):
        raise WriteError("learning-curves.png cannot be written: No space left")

    monkeypatch.setattr("scratchnmt.plots.learning_curves", full)
    result = run(tmp_path, resume=True, max_steps=3)
    assert result.curves is None
    ready = SimpleNamespace(data=SimpleNamespace(origin={f"{part}_{side}": "x" for part in ("train", "valid")
                                                         for side in ("src", "tgt")}), options=options())
    assert train_command.finish(result, ready, "go on") == 0
    assert "learning curves:" not in capsys.readouterr().out


@pytest.mark.parametrize("at", ["lock", "corpus"])
def test_a_resume_that_cannot_write_before_it_goes_on_tells_what_is_kept(tmp_path, monkeypatch, at):
    given = [*files(tmp_path, 40), "--vocab=word", "--embed-size=4", "--hidden-size=4", "--workers=1", "--patience=0"]
    assert main(["train", f"--out={tmp_path}/run", *given, "--max-steps=2"]) == 0
    if at == "corpus":
        os.utime(tmp_path / "train.src", (1, 1))  # it has to be made anew
        monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    else:
        original = os.open

        def read_only(path, *rest, **more):
            if str(path).endswith(LOCK):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            return original(path, *rest, **more)

        monkeypatch.setattr(os, "open", read_only)
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        assert main(["train", f"--out={tmp_path}/run", "--resume", "--max-steps=4"]) == 2
    assert re.search(rf"cannot be written: .*; the last good state is kept in {tmp_path}/run, of step 2; when that is "
                     "mended, resume it", errors.getvalue()), errors.getvalue()
    monkeypatch.undo()
    assert main(["train", f"--out={tmp_path}/run", "--resume", "--max-steps=4"]) == 0


def test_of_a_run_that_was_moved_not_the_step_of_the_one_in_its_place_is_told(tmp_path):
    for name in "ab":
        run(tmp_path / name, max_steps=2)
    with RunFolder(tmp_path / "a", resume=True) as folder:
        (tmp_path / "a").rename(tmp_path / "c")
        (tmp_path / "b").rename(tmp_path / "a")
        with pytest.raises(WriteError, match="was moved, and this is another one$"), folder.told_what_is_kept():
            folder.check_place()


def test_a_state_that_vanishes_before_it_is_read_does_not_begin_a_run_of_zeros(tmp_path):
    run(tmp_path, max_steps=2)
    for name in STATE, BEST_STATE, MODEL, METRICS:
        (tmp_path / name).unlink()
    with pytest.raises(InputError, match=f"cannot resume .*: its {STATE} has vanished"):
        run(tmp_path, choices={"seed": None}, resume=True, max_steps=3)


def test_what_a_killed_builder_has_left_takes_no_room_from_the_next(tmp_path, monkeypatch):
    given = [*files(tmp_path, 40), "--vocab=word", "--embed-size=4", "--hidden-size=4", "--workers=1", "--max-steps=1"]
    left = tmp_path / "run" / ".corpus.4711-0a0b0c0d.tmp"
    elsewhere = tmp_path / "disk" / ".texts.4711-0a0b0c0d.tmp"
    for folder in (left, elsewhere):
        folder.mkdir(parents=True)
        (folder / "ids.bin").write_bytes(b"many")
        for old in folder / "ids.bin", folder:
            os.utime(old, (0, 0))
    (tmp_path / "disk" / "texts").mkdir()
    (tmp_path / "run" / "corpus-teacher").symlink_to(tmp_path / "disk" / "texts")

    def build(*arguments, **options):
        there.append(left.exists() or elsewhere.exists())
        return original(*arguments, **options)

    there, original = [], prepare.open_or_build
    monkeypatch.setattr(prepare, "open_or_build", build)
    assert main(["train", f"--out={tmp_path}/run", *given]) == 0
    assert there == [False]


@pytest.mark.parametrize("within", ["_validate", "run"])
def test_memory_that_ends_in_a_save_is_not_mended_by_the_size_of_a_batch(tmp_path, monkeypatch, within):
    def full(*_, **__):
        if any(frame.name == within for frame in traceback.extract_stack()) and (tmp_path / STATE).exists():
            raise MemoryError("Unable to allocate 1 GiB")

    monkeypatch.setattr(tensors, "_read_back", full)
    with pytest.raises(OutOfMemoryError, match="what is saved does not fit into memory once more: resume it where"):
        run(tmp_path, valid_every=2, save_every=3, max_steps=6)


def test_memory_that_ends_at_a_resume_is_not_mended_by_sizes_that_cannot_change(tmp_path, monkeypatch):
    run(tmp_path, max_steps=2)
    monkeypatch.setattr("scratchnmt.optim.Adam.__init__", lambda *_, **__: np.zeros(1 << 58))
    with pytest.raises(OutOfMemoryError, match="where more memory is free; no step was taken since it was resumed$"):
        run(tmp_path, resume=True, max_steps=3)


def test_what_a_killed_demo_has_left_is_its_own(tmp_path):
    (tmp_path / ".README.txt.4711-0a0b0c0d.tmp").write_text("")
    (tmp_path / LOCK).write_text("4711\n")
    demo._check_folder(tmp_path)
    (tmp_path / ".train.en.4711-0a0b0c0d.tmp").write_text("half")
    demo.write_corpus(tmp_path, toy_corpus(train=4, valid=2, test=2))
    assert sorted(tmp_path.glob(".*.tmp")) == []
    (tmp_path / "README.txt").write_text("years of work")
    with pytest.raises(InputError, match="something else than a demo"):
        demo._check_folder(tmp_path)
