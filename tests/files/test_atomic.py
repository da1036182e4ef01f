"""A file or a folder is there as a whole or not at all, whoever writes it."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from scratchnmt.errors import InputError, ScratchnmtError, WriteError
from scratchnmt.files import atomic, tensors
from scratchnmt.files.atomic import copy_file, remove_temporaries, replace_file, replace_folder, write_atomically
from scratchnmt.files.run_folder import RunFolder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_writers_at_the_same_time_have_names_of_their_own(tmp_path):
    path = tmp_path / "f"
    with replace_file(path) as one, replace_file(path) as other:
        one.write_text("one")
        other.write_text("other")
        assert one != other and not path.exists()
    assert path.read_text() == "one" and names(tmp_path) == ["f"]  # the last to end


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_what_replaces_a_file_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new" and stat.S_IMODE(path.stat().st_mode) == mode


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("private", [0o600, 0o400])
def test_what_nobody_else_may_read_is_not_readable_while_it_is_written_either(tmp_path, private):
    path = tmp_path / "f"
    path.touch()
    path.chmod(private)

    def parts():
        yield b"secret"
        (temporary,) = tmp_path.glob(".f.*")
        modes.append(mode(temporary))

    modes = []
    write_atomically(path, parts())
    with replace_file(path) as new:
        modes.append(mode(new))
    assert not [found for found in modes if found & 0o077] and mode(path) == private


def test_the_group_that_reads_a_file_in_the_end_is_its_own_and_no_other_meanwhile(tmp_path):
    path, folder = tmp_path / "f", tmp_path / "folder"
    path.touch()
    path.chmod(0o640)
    folder.mkdir(0o750)
    with replace_file(path) as new, replace_folder(folder) as new_folder:  # both are of our group, whatever theirs is
        found = [mode(new), mode(new_folder)]
    assert found == [0o600, 0o700] and (mode(path), mode(folder)) == (0o640, 0o750)


def test_what_is_salvaged_has_the_mode_of_what_it_would_have_replaced(tmp_path):
    path = tmp_path / "f"
    path.touch()
    path.chmod(0o640)
    modes = []
    with pytest.raises(KeyboardInterrupt), replace_file(path, salvage=lambda new: modes.append(mode(new))):
        raise KeyboardInterrupt
    assert modes == [0o640]


def test_tensors_that_nobody_else_may_read_are_not_readable_while_they_are_written(tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    path = tmp_path / "t"
    path.touch()
    path.chmod(0o600)
    replace, modes = os.replace, []

    def look(new, to):
        modes.extend([mode(new), mode(Path(new).parent) if Path(new).parent != tmp_path else 0])
        replace(new, to)

    for name in ("replace", "rename"):
        monkeypatch.setattr(os, name, look)
    tensors.write_tensors(path, {"a": np.zeros(9)}, {})
    assert len(modes) == 4 and not [found for found in modes if found & 0o077] and mode(path) == 0o600


@pytest.mark.parametrize("links", [True, False])
def test_a_copy_keeps_the_mode_of_what_it_replaces_or_else_of_its_original(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(OSError("no links here")))
    path, copy, private = tmp_path / "f", tmp_path / "copy", tmp_path / "private"
    write_atomically(path, b"new")
    private.write_bytes(b"old")
    private.chmod(0o600)
    copy_file(path, private)
    assert private.read_bytes() == b"new" and mode(private) == 0o600 and mode(path) != 0o600
    copy_file(private, copy)
    assert copy.read_bytes() == b"new" and mode(copy) == 0o600
    copy_file(path, copy)
    assert mode(copy) == 0o600
    write_atomically(path, b"newer")
    assert copy.read_bytes() == private.read_bytes() == b"new" and names(tmp_path) == ["copy", "f", "private"]


def test_a_copy_follows_links_on_both_sides(tmp_path):
    """A link stays one, and a copy of a link is none: it would change with its original."""
    (tmp_path / "elsewhere").mkdir()
    for name in ("f", "copy"):
        (tmp_path / "elsewhere" / name).write_bytes(b"old " + name.encode())
        (tmp_path / name).symlink_to(tmp_path / "elsewhere" / name)
    copy_file(tmp_path / "f", tmp_path / "copy")
    write_atomically(tmp_path / "f", b"new")
    assert (tmp_path / "copy").is_symlink() and not (tmp_path / "elsewhere" / "copy").is_symlink()
    assert (tmp_path / "elsewhere" / "copy").read_bytes() == b"old f"


def test_a_library_that_puts_a_file_of_its_own_there_does_not_change_the_mode(tmp_path):
    (tmp_path / "plain").touch()
    with replace_file(tmp_path / "f") as new:
        (tmp_path / "own").write_bytes(b"new")
        (tmp_path / "own").chmod(0o600)
        os.replace(tmp_path / "own", new)
    assert (tmp_path / "f").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only the superuser gives files away")
def test_what_replaces_a_file_keeps_its_owner(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    os.chown(path, 1234, 4321)
    write_atomically(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 4321)


@pytest.mark.parametrize("name", ["n" * 300, "n" * 300 + "/f", "f/g", "loop/f"])
@pytest.mark.parametrize("do", [
    lambda path: write_atomically(path, b"x"), lambda path: copy_file(path.parents[0], path),
    lambda path: replace_folder(path).__enter__(), lambda path: tensors.write_tensors(path, {"a": np.zeros(1)}, {}),
    lambda path: RunFolder(path).__enter__(), lambda path: RunFolder(path, resume=True).__enter__(),
    lambda path: RunFolder(path).read(), tensors.read_tensors])
def test_a_path_that_there_cannot_be_is_told_in_a_sentence(tmp_path, name, do):
    """Not as an error of the system; so is one that we may not look at, which the superuser may."""
    pytest.importorskip("safetensors")
    (tmp_path / "f").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    before = names(tmp_path)
    with pytest.raises(InputError, match="f|n"):
        do(tmp_path / name)
    assert names(tmp_path) == before


def test_a_name_as_long_as_names_can_be(tmp_path):
    path = tmp_path / ("é" * 127)
    write_atomically(path, b"x")
    assert names(tmp_path) == [path.name]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    for text in ("old", "new"):
        with replace_folder(tmp_path / "d", overwrite=True) as new:
            (new / text).touch()
    assert names(tmp_path / "d") == ["new"] and names(tmp_path) == ["d"]
    with pytest.raises(WriteError, match="d cannot be written: Directory not empty"), replace_folder(tmp_path / "d"):
        pass
    with pytest.raises(ZeroDivisionError), replace_folder(tmp_path / "d", overwrite=True) as new:
        (new / "half").touch()
        raise ZeroDivisionError
    assert names(tmp_path / "d") == ["new"] and names(tmp_path) == ["d"]


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_folder_does_not_take_the_place_of_a_file(tmp_path, overwrite):
    (tmp_path / "thesis").write_text("years of work")
    with pytest.raises(WriteError, match="thesis cannot be written: Not a directory"), \
            replace_folder(tmp_path / "thesis", overwrite=overwrite):
        pass
    assert (tmp_path / "thesis").read_text() == "years of work" and names(tmp_path) == ["thesis"]


def test_a_pipe_is_not_waited_for_when_it_is_copied(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WriteError, match="copy cannot be written: .* is a named pipe"):
        copy_file(tmp_path / "pipe", tmp_path / "copy")
    assert names(tmp_path) == ["pipe"]


@pytest.mark.parametrize("overwrite", [True, False])
def test_what_replaces_a_folder_keeps_its_mode_and_is_no_more_open_while_it_is_written(tmp_path, overwrite):
    path = tmp_path / "d"
    path.mkdir()
    path.chmod(0o2750)
    with replace_folder(path, overwrite=overwrite) as new:
        assert mode(new) & 0o777 == 0o700
        (new / "f").touch()
    assert mode(path) == 0o2750 and names(path) == ["f"]


def test_a_new_folder_has_the_mode_of_the_one_that_it_is_to_be_like(tmp_path):
    like = tmp_path / "like"
    like.mkdir()
    like.chmod(0o2750)
    with replace_folder(tmp_path / "d", like=like) as new:
        assert mode(new) & 0o777 == 0o700
    assert mode(tmp_path / "d") == 0o2750


def test_a_copy_of_what_cannot_be_read_names_both_files(tmp_path):
    with pytest.raises(WriteError, match="/copy cannot be written: .*/missing cannot be read: No such file"):
        copy_file(tmp_path / "missing", tmp_path / "copy")
    assert names(tmp_path) == []


def test_an_error_within_a_folder_names_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(WriteError) as error, replace_folder(tmp_path / "d") as new:
        write_atomically(new / "f", b"x")
    assert str(error.value) == f"{tmp_path}/d cannot be written: No space left on device" and names(tmp_path) == []


def of_folders(monkeypatch, error):
    """Such an error for who wants to flush a folder's list of files."""
    flush = atomic.flush_to_disk

    def failing(path):
        if Path(path).is_dir():
            raise error
        flush(path)

    monkeypatch.setattr(atomic, "flush_to_disk", failing)


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(22, "Invalid argument")])
def test_a_folder_that_may_not_be_read_or_knows_no_flush_is_written(tmp_path, monkeypatch, error):
    of_folders(monkeypatch, error)
    for text in ("old", "new"):
        write_atomically(tmp_path / "f", text.encode())
        copy_file(tmp_path / "f", tmp_path / "copy")
        with replace_folder(tmp_path / "d", overwrite=True) as new:
            (new / text).touch()
        assert (tmp_path / "copy").read_text() == text and names(tmp_path / "d") == [text]
    assert names(tmp_path) == ["copy", "d", "f"]


def test_what_was_replaced_is_not_told_as_if_it_were_not(tmp_path, monkeypatch):
    of_folders(monkeypatch, OSError(5, "Input/output error"))
    with pytest.raises(WriteError, match="f was written, but may be gone after a crash of the machine: Input/output"):
        write_atomically(tmp_path / "f", b"new")
    with pytest.raises(WriteError, match="copy was written, but"):
        copy_file(tmp_path / "f", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"new"
    kept = []
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "old").touch()
    with pytest.raises(WriteError, match="d was written, but"), replace_folder(tmp_path / "d", overwrite=True) as new:
        (new / "new").touch()
    with (pytest.raises(WriteError, match="f was written, but"),
          replace_file(tmp_path / "f", salvage=kept.append) as new):
        new.write_bytes(b"newer")
    assert not kept and (tmp_path / "f").read_bytes() == b"newer" and names(tmp_path / "d") == ["new"]
    assert names(tmp_path) == ["copy", "d", "f"]


def test_temporaries_of_one_file_alone_are_removed(tmp_path):
    for name in (".f.tmp", ".f.12-ab.tmp", ".g.12-ab.tmp", "f", ".f"):
        (tmp_path / name).touch()
    remove_temporaries(tmp_path / "f")
    assert names(tmp_path) == [".f", ".g.12-ab.tmp", "f"]


def test_what_another_writes_under_a_longer_name_is_left_alone(tmp_path):
    others = [".corpus.de.12-ab.tmp", ".corpus-teacher.de.12-ab.tmp", ".corpus-teacher-de.12-ab.tmp",
              ".corpus.old-tmp", ".corpus.notes.tmp"]
    for name in (*others, ".corpus.12-ab.tmp", ".corpus-teacher.12-ab.tmp", ".corpus-teacher-2.7.tmp"):
        (tmp_path / name).touch()
    for name in ("corpus", "corpus-teacher", "corpus-teacher-*"):
        remove_temporaries(tmp_path / name)
    assert names(tmp_path) == sorted(others)


def test_what_another_writes_where_a_folder_is_to_be_is_left_alone(tmp_path):
    (tmp_path / ".corpus.12-ab.tmp").touch()
    (tmp_path / ".corpus.13-ab.tmp").mkdir()
    remove_temporaries(tmp_path / "corpus", folders=True)
    assert names(tmp_path) == [".corpus.12-ab.tmp"]


def test_many_threads_never_show_half_a_file(tmp_path):
    path, wrong = tmp_path / "f", []
    write_atomically(path, b"0" * 100_000)

    def write(number):
        try:
            for _ in range(20):
                write_atomically(path, b"%d" % number * 100_000)
        except ScratchnmtError as error:
            wrong.append(error)

    def read():
        while any(thread.is_alive() for thread in writers):
            data = path.read_bytes()
            if len(data) != 100_000 or len(set(data)) != 1:
                wrong.append(len(data))

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    threads = [*writers, threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and names(tmp_path) == ["f"]


def test_pictures_are_written_whole(tmp_path, monkeypatch):
    figure = pytest.importorskip("matplotlib.figure")
    from scratchnmt.plots import attention_map

    path = tmp_path / "map.png"
    attention_map(["a"], ["b"], [[1.0]], path)
    before = path.read_bytes()

    def half(self, path, **_):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figure.Figure, "savefig", half)
    with pytest.raises(InputError, match="map.png cannot be written: No space left"):
        attention_map(["a"], ["b"], [[0.5]], path)
    assert path.read_bytes() == before and names(tmp_path) == ["map.png"]


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="open files have no names here")
@pytest.mark.parametrize("name", ["/dev/fd/{}", "/proc/self/fd/{}", "link"])
def test_a_file_that_is_open_is_written_and_not_replaced(tmp_path, name):
    with open(tmp_path / "log", "a") as log:
        (tmp_path / "other").symlink_to(f"/dev/fd/{log.fileno()}")
        (tmp_path / "link").symlink_to("other")
        write_atomically(tmp_path / name.format(log.fileno()), b"all")
        log.write(" of it")
    assert (tmp_path / "log").read_text() == "all of it"


@pytest.mark.parametrize("name", ["pipe", "link", "/dev/stdout"])
def test_tensors_take_no_place_of_a_pipe_or_a_device(tmp_path, monkeypatch, name):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    moved = []
    monkeypatch.setattr(os, "replace", lambda *paths: moved.append(paths))  # lest a wrong one spoils the machine
    with pytest.raises(WriteError, match="cannot be written: it is not a regular file"):
        tensors.write_tensors(tmp_path / name, {"w": np.zeros(3)}, {})
    assert not moved and names(tmp_path) == ["link", "pipe"]


def test_a_killed_save_of_tensors_leaves_nothing_that_is_not_removed(tmp_path):
    pytest.importorskip("safetensors")
    code = ("import os, sys, numpy as np, safetensors.numpy as library\n"
            "from scratchnmt.files.tensors import write_tensors\n"
            "save = library.save_file\n"
            "library.save_file = lambda *a, **k: (save(*a, **k), os.kill(os.getpid(), 9))\n"
            "write_tensors(sys.argv[1], {'a': np.zeros(9)}, {})")
    subprocess.run([sys.executable, "-c", code, tmp_path / "t"], check=False,
                   env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])})
    assert names(tmp_path)
    remove_temporaries(tmp_path / "t")
    assert names(tmp_path) == []


def test_of_several_writers_of_a_folder_at_once_the_last_one_wins(tmp_path):
    """One that another is faster than, between its two renamings, goes on."""
    folder, moved, replace = tmp_path / "corpus", [], os.replace

    def slow(source, target):
        replace(source, target)
        if Path(source) == folder and not moved:  # taken away: now another writer puts his there
            moved.append(target)
            with replace_folder(folder, overwrite=True) as new:
                (new / "a").write_text("second")

    with replace_folder(folder, overwrite=True) as new:
        (new / "a").write_text("first")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", slow)
        with replace_folder(folder, overwrite=True) as new:
            (new / "a").write_text("third")
    assert moved and (folder / "a").read_text() == "third" and os.listdir(tmp_path) == ["corpus"]


def test_ctrl_c_between_two_renamings_leaves_the_folder_that_was_there(tmp_path, monkeypatch):
    def interrupted(source, target):
        replace(source, target)
        if Path(source) == tmp_path / "corpus":
            raise KeyboardInterrupt

    replace = os.replace
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/a").write_text("first")
    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), replace_folder(tmp_path / "corpus", overwrite=True) as new:
        (new / "a").write_text("second")
    assert (tmp_path / "corpus/a").read_text() == "first" and os.listdir(tmp_path) == ["corpus"]


def test_temporaries_beside_what_a_link_leads_to_are_removed(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "disk/of[1].run")
    for name in (".of[1].run.12-ab.tmp", ".of1.run.12-ab.tmp", "of[1].run"):
        (tmp_path / "disk" / name).write_text("")
    remove_temporaries(tmp_path / "state")
    assert len(os.listdir(tmp_path / "disk")) == 3  # another run may be writing it
    os.utime(tmp_path / "disk/.of[1].run.12-ab.tmp", (0, 0))
    remove_temporaries(tmp_path / "state")
    assert sorted(os.listdir(tmp_path / "disk")) == [".of1.run.12-ab.tmp", "of[1].run"]


def test_a_folder_beside_what_a_link_leads_to_stays_while_a_file_in_it_is_written(tmp_path):
    building = tmp_path / "disk/.corpus.12-ab.tmp"
    building.mkdir(parents=True)
    (building / "ids.bin").write_text("")
    (tmp_path / "corpus").symlink_to(tmp_path / "disk/corpus")
    os.utime(building, (0, 0))
    remove_temporaries(tmp_path / "corpus")
    assert building.exists()
    os.utime(building / "ids.bin", (0, 0))
    os.utime(building, (0, 0))
    remove_temporaries(tmp_path / "corpus")
    assert not building.exists()


def test_an_error_of_another_file_is_not_told_as_this_one_s(tmp_path):
    (tmp_path / "picture").mkdir()
    for path in "text", "folder/file":
        with pytest.raises(WriteError, match=rf"^{tmp_path}/picture cannot be written: Is a directory$"):
            (tmp_path / path).parent.mkdir(exist_ok=True)
            with replace_file(tmp_path / path):
                write_atomically(tmp_path / "picture", b"")
    with pytest.raises(FileNotFoundError, match="words"), replace_folder(tmp_path / "corpus"):
        (tmp_path / "words").read_bytes()
    assert names(tmp_path) == ["folder", "picture"] and names(tmp_path / "folder") == []


def test_an_error_of_a_file_within_a_new_folder_is_told_as_the_folder_s(tmp_path):
    with pytest.raises(WriteError, match="corpus cannot be written: Is a directory$"), replace_folder(
            tmp_path / "corpus") as new:
        (new / "ids").mkdir()
        write_atomically(new / "ids", b"")
    with pytest.raises(WriteError, match="corpus cannot be written: No such file"), replace_folder(
            tmp_path / "corpus") as new:
        (new / "there is none" / "ids").write_bytes(b"")
