"""The folder of a run: one run at a time, its files and who may read them."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import pytest
import tiny_run
from fake_comm import on_ranks
from tiny_run import At, data, files, metrics, model, options, run

from scratchnmt.checkpoint import average, load_model, load_models, save_model
from scratchnmt.cli import main, prepare
from scratchnmt.data.vocab import WordVocabulary
from scratchnmt.errors import InputError, WriteError
from scratchnmt.files import atomic, run_folder
from scratchnmt.files.lock import LOCK, FolderLock
from scratchnmt.files.run_folder import BEST_STATE, CONFIG, METRICS, MODEL, STATE, RunFolder
from scratchnmt.models.nmt import NMT
from scratchnmt.training import train
from scratchnmt.training.loop import Trainer
from scratchnmt.training.saving import Saving

pytest.importorskip("safetensors")
pytest.importorskip("sacrebleu")


# one run in a folder

def test_a_second_run_in_a_folder_is_refused_and_changes_nothing(tmp_path):
    run(tmp_path, max_steps=2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    holder = subprocess.Popen([sys.executable, "-c", textwrap.dedent(f"""
        import sys
        from scratchnmt.files.lock import FolderLock
        with FolderLock({str(tmp_path)!r}):
            print("in", flush=True)
            sys.stdin.read()
    """)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"in\n"
    for how in (dict(resume=True), dict(overwrite=True)):
        with pytest.raises(InputError, match=rf"in use by another run \(process {holder.pid}\): wait"):
            run(tmp_path, **how)
    holder.kill()  # SIGKILL: nobody had time to give the lock back
    holder.wait()
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.name != LOCK} == {
        name: data for name, data in before.items() if name != LOCK}
    run(tmp_path, resume=True, max_steps=3)


@pytest.mark.parametrize("changes", [{"save_every": 1}, {"valid_every": 1}])
def test_a_run_whose_folder_was_moved_writes_into_no_other(tmp_path, monkeypatch, changes):
    def moved(self, state):
        save(self, state)
        if state.step == 2:
            (tmp_path / "run").rename(tmp_path / "elsewhere")
            (tmp_path / "run").mkdir()  # as another run would

    save = Saving.save
    monkeypatch.setattr(Saving, "save", moved)
    with pytest.raises(WriteError, match="the run's folder was moved, and this is another one: training stopped"):
        run(tmp_path / "run", max_steps=9, **changes)
    assert os.listdir(tmp_path / "run") == []


def test_a_second_run_of_the_same_process_is_refused_and_the_first_keeps_the_folder(tmp_path):
    def second():
        with pytest.raises(InputError, match="another run .process .*, which is this one's number, too.: wait"):
            run(tmp_path, overwrite=True)
        code = (f"from scratchnmt.files.lock import FolderLock\nwith FolderLock({str(tmp_path)!r}): print('in')")
        assert "in use by another run" in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                                                         check=False).stderr
        tried.append(1)

    tried = []
    run(tmp_path, progress=At(2, second), max_steps=3)
    assert tried


@pytest.mark.parametrize("name", ["metrics.jsonl", "not-finite.jsonl"])
def test_a_pipe_among_the_files_of_a_run_is_refused(tmp_path, name):
    run(tmp_path, max_steps=2)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match=f"{name} is not a regular file"):
        run(tmp_path, resume=True, max_steps=3)


def test_a_pipe_in_the_place_of_the_report_is_told_not_waited_for(tmp_path):
    with run_folder.RunFolder(tmp_path) as folder:
        os.mkfifo(tmp_path / "not-finite.jsonl")
        with pytest.raises(WriteError, match="not-finite.jsonl cannot be written: .* is not a regular file"):
            folder.add_not_finite({"step": 1})


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_a_run_that_replaces_another_has_its_mode(tmp_path, draws, mode):
    for times in range(2):
        run(tmp_path, overwrite=bool(times), max_steps=2, valid_every=1, keep=1)
        with RunFolder(tmp_path, resume=True) as folder:
            folder.add_not_finite({"step": 1})
        paths = [path for path in tmp_path.rglob("*") if path.is_file()]
        if not times:
            (tmp_path / CONFIG).chmod(mode)
    assert len(paths) == 11 and {(path.name, path.stat().st_mode & 0o777) for path in paths} == {
        (path.name, mode) for path in paths}


def test_a_read_only_config_leaves_the_report_of_steps_for_further_lines(tmp_path):
    run(tmp_path, max_steps=2)
    (tmp_path / CONFIG).chmod(0o444)
    with RunFolder(tmp_path, resume=True) as folder:
        for step in (1, 2):
            folder.add_not_finite({"step": step})
    report = tmp_path / "not-finite.jsonl"
    assert report.stat().st_mode & 0o777 == 0o644 and len(report.read_bytes().splitlines()) == 2


def test_models_that_are_kept_are_the_owners_of_the_run(tmp_path):
    """Whoever else, such as root, resumed it once."""
    if os.getuid():
        pytest.skip("only root can write as another user")
    run(tmp_path, max_steps=2, valid_every=2)
    tmp_path.chmod(0o750)
    for path in (tmp_path, *tmp_path.iterdir()):
        os.chown(path, 65534, 65534)
    run(tmp_path, max_steps=4, valid_every=2, keep=1, resume=True)
    kept = list((tmp_path / "checkpoints").rglob("*"))
    assert len(kept) == 4 and {path.stat().st_uid for path in (*kept, tmp_path / "checkpoints")} == {65534}
    assert (tmp_path / "checkpoints").stat().st_mode & 0o777 == 0o750


def test_a_model_that_is_replaced_is_at_no_moment_readable_for_more_people(tmp_path, monkeypatch):
    run(tmp_path, max_steps=2, valid_every=2)
    loaded = load_model(tmp_path)
    save = partial(save_model, tmp_path / "model", loaded.model, loaded.src_vocab, loaded.tgt_vocab)
    save()
    for path in (tmp_path / "model").iterdir():
        path.chmod(0o600)
    move, modes = os.replace, []

    def look(new, to):
        if Path(to).parent == tmp_path / "model":
            modes.append(os.stat(new).st_mode & 0o777)
        move(new, to)

    given = atomic.give
    monkeypatch.setattr(atomic, "give", lambda new, access: modes.append(os.stat(new).st_mode & 0o077
                        if new.parent == tmp_path / "model" else 0) or given(new, access))
    monkeypatch.setattr(os, "replace", look)
    save(overwrite=True)
    assert {*modes} == {0, 0o600}


def test_the_weights_are_those_of_the_words_that_were_read(tmp_path, monkeypatch):
    """Also if another model takes its place meanwhile."""
    words = [WordVocabulary(letters) for letters in ("abc", "cba")]
    save = [partial(save_model, tmp_path / "m", NMT(7, 7, 4, 4, seed=seed), words, words, overwrite=True)
            for seed, words in enumerate(words)]
    read = RunFolder.read_weights

    def late(self, run):
        save[1]()
        return read(self, run)

    for load in (load_model, lambda folder: load_models([tmp_path / "other", folder]),
                 lambda folder: average([folder, tmp_path / "other"], tmp_path / "mean")):
        save[0]()
        save_model(tmp_path / "other", NMT(7, 7, 4, 4, seed=3), words[0], words[0], overwrite=True)
        with monkeypatch.context() as patch, pytest.raises(InputError, match="m.model.safetensors does not belong"):
            patch.setattr(RunFolder, "read_weights", late)
            load(tmp_path / "m")


def test_an_overwriting_run_that_was_broken_off_leaves_the_mode_to_the_next(tmp_path, monkeypatch):
    run(tmp_path, max_steps=1)
    for path in tmp_path.iterdir():
        path.chmod(0o600)
    with monkeypatch.context() as patch, pytest.raises(WriteError):
        patch.setattr(RunFolder, "_write_config", lambda self, *_: self._check_place() or (_ for _ in ()).throw(
            WriteError("no space")))
        run(tmp_path, overwrite=True, max_steps=1)
    run(tmp_path, overwrite=True, max_steps=1)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_half_a_line_does_not_spoil_the_next_one(tmp_path):
    """Which a kill, or a disk that was full, may leave."""
    with run_folder.RunFolder(tmp_path) as folder:
        for step in (1, 2):
            folder.add_not_finite({"step": step, "source": "é \ud800"})
        path = tmp_path / "not-finite.jsonl"
        path.write_bytes(path.read_bytes()[:-9])
        for step in (3, 4):
            folder.add_not_finite({"step": step})
    first, half, *rest = path.read_bytes().splitlines()
    assert json.loads(first)["step"] == 1 and half.startswith(b'{"step": 2')
    assert [json.loads(line)["step"] for line in rest] == [3, 4]


def test_an_open_folder_is_trained_in_once_it_is_given(tmp_path):
    with run_folder.RunFolder(tmp_path) as folder:
        run(folder, max_steps=2)
        assert (tmp_path / LOCK).exists()  # whoever opened it closes it
        with pytest.raises(InputError, match="in use"):
            run(tmp_path, resume=True)
    run(tmp_path, resume=True, max_steps=3)


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_whose_folder_is_moved_before_its_first_step_touches_no_other(tmp_path, monkeypatch, resume):
    """Learning the vocabularies takes long; by then another run may be in its place."""
    def moved(self):
        begin(self)  # what is here now is whole, and half of a file is being written
        (tmp_path / "run").rename(tmp_path / "elsewhere")
        shutil.copytree(tmp_path / "other", tmp_path / "run")

    begin = Trainer._make_progress
    run(tmp_path / "other", max_steps=2)
    (tmp_path / "other/.training-state.safetensors.1-2.tmp").write_text("half")
    if resume:
        run(tmp_path / "run", max_steps=2)
    before = {path.name: path.read_bytes() for path in (tmp_path / "other").iterdir()}
    monkeypatch.setattr(Trainer, "_make_progress", moved)
    with pytest.raises(WriteError, match="the run's folder was moved, and this is another one"):
        train(model(), data(), options(max_steps=4), tmp_path / "run", resume=resume)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_a_training_text_is_not_written_into_a_folder_that_took_the_place_of_the_runs(tmp_path, monkeypatch):
    def moved(*args, **choices):
        (tmp_path / "run").rename(tmp_path / "elsewhere")
        if other.exists():
            other.rename(tmp_path / "run")
        return build(*args, **choices)

    build, other = prepare.build_vocabularies, tmp_path / "other"
    (other / "corpus").mkdir(parents=True)
    monkeypatch.setattr(prepare, "build_vocabularies", moved)
    text = (option.removeprefix("--").partition("=") for option in files(tmp_path, 9))
    given = {"vocab": "word", "embed_size": 4, "hidden_size": 4,
             **{name.replace("-", "_"): path for name, _, path in text}}
    for told in ("and this is another one", "was moved or removed"):
        with pytest.raises(WriteError, match=told), run_folder.RunFolder(tmp_path / "run") as folder:
            prepare.prepare(folder, given)
        if (tmp_path / "run").exists():
            assert os.listdir(tmp_path / "run") == ["corpus"] and not os.listdir(tmp_path / "run/corpus")
            shutil.rmtree(tmp_path / "run")
        shutil.rmtree(tmp_path / "elsewhere")
    assert not (tmp_path / "run").exists()


def test_an_open_folder_is_for_one_run(tmp_path):
    def second():
        with pytest.raises(InputError, match="in use by another run of this process"):
            run(folder, max_steps=1)
        if hasattr(os, "fork"):
            if not (child := os.fork()):
                try:
                    run(folder, max_steps=1)
                except InputError as error:
                    os._exit("was opened by another process" in str(error))
                finally:
                    os._exit(2)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
        tried.append(1)

    tried = []
    with run_folder.RunFolder(tmp_path) as folder:
        run(folder, max_steps=3, progress=At(2, second))
        before = (tmp_path / STATE).read_bytes()
        with pytest.raises(InputError, match="holds a run already"):
            run(folder, max_steps=1)
        for how in ("resume", "overwrite"):
            with pytest.raises(InputError, match=f"{how} is True, but the RunFolder was opened without"):
                run(folder, max_steps=1, **{how: True})
    assert tried and (tmp_path / STATE).read_bytes() == before
    with run_folder.RunFolder(tmp_path, resume=True) as folder:
        for steps in (4, 5):
            assert run(folder, max_steps=steps).step == steps


@pytest.mark.parametrize("how", ["--resume", "--overwrite"])
def test_the_text_as_ids_is_readable_for_whoever_may_read_the_config(tmp_path, how):
    given = ["train", *files(tmp_path, 40), "--vocab=word", "--embed-size=4", "--hidden-size=4", "--max-steps=2",
             "--workers=1", f"--out={tmp_path / 'run'}"]
    before = os.umask(0o022)
    try:
        assert main(given) == 0
        shutil.rmtree(tmp_path / "run" / "corpus")
        for path in tmp_path.glob("run/*"):
            path.chmod(0o600)
        (tmp_path / "run").chmod(0o700)
        assert main([*given, how]) == 0
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "run" / "corpus").iterdir()}
    assert len(modes) == 4 and {*modes.values()} == {0o600}
    assert (tmp_path / "run" / "corpus").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_another_run_takes_away_as_it_ends_is_made_again(tmp_path, monkeypatch):
    """It had made it, and written nothing there."""
    def removed(path, *args):
        if not tried and str(path).endswith(LOCK):
            tried.append(1)
            (tmp_path / "run").rmdir()
        return opened(path, *args)

    opened, tried = os.open, []
    monkeypatch.setattr(os, "open", removed)
    with FolderLock(tmp_path / "run"):
        assert tried and (tmp_path / "run" / LOCK).exists()
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_not_open_is_refused(tmp_path):
    """Nobody has looked what is there, and nobody is kept out: the run that is there would be gone."""
    with run_folder.RunFolder(tmp_path) as folder:
        run(folder, max_steps=2)
    before = (tmp_path / MODEL).read_bytes()
    for one in folder, run_folder.RunFolder(tmp_path):
        with pytest.raises(InputError, match="is not open: give the path"):
            run(one, max_steps=1)
    assert (tmp_path / MODEL).read_bytes() == before


def test_ranks_whose_saved_states_differ_are_told(tmp_path):
    """Each has a disk of its own, and one a copy of the run as it was earlier."""
    run(tmp_path / "0", max_steps=4)
    shutil.copytree(tmp_path / "0", tmp_path / "1")
    run(tmp_path / "1", max_steps=6, resume=True)

    def begin(ranks):
        with RunFolder(tmp_path / str(ranks.rank), resume=True) as folder:
            return Trainer(model(), data(), options(max_steps=9), folder, ranks)

    for found in on_ranks(2, begin):
        assert isinstance(found, InputError)
        assert str(found).startswith("the step of the saved state is 4 on rank 0 and 6 on rank 1: all ranks need the ")


def test_a_rank_that_does_not_write_the_best_model_does_not_tell_its_step(tmp_path):
    run(tmp_path, max_steps=6, valid_every=2)
    shutil.copytree(tmp_path, tmp_path / "1")

    def begin(ranks):
        with RunFolder(tmp_path / "1" if ranks.rank else tmp_path, resume=True) as folder:
            return Trainer(model(), data(), options(max_steps=9), folder, ranks).kept()

    first, other = on_ranks(2, begin)
    assert "of step 6" in first and "of step 6" in other and "the best model" not in other
    assert ("the best model is that of step" in first) == (metrics(tmp_path)[-1]["valid_ppl"] > min(
        record["valid_ppl"] for record in metrics(tmp_path)))


def test_a_run_that_saved_no_state_goes_on_in_its_dtype_alone(tmp_path):
    """Else it ends with weights that its config.json does not fit, and nobody can load."""
    run(tmp_path, max_steps=2)
    for name in STATE, BEST_STATE, MODEL, METRICS:
        (tmp_path / name).unlink()
    with pytest.raises(InputError, match="its weights are float32, the model's float64"):
        train(tiny_run.model(dtype="float64"), tiny_run.data(), tiny_run.options(max_steps=2), tmp_path, resume=True)
