"""The lock of a folder: who is kept out, and what is left alone."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from scratchnmt.errors import InputError, WriteError
from scratchnmt.files.lock import LOCK, FolderLock


def test_a_lock_in_a_folder_that_is_not_ours(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file cannot be written"), FolderLock(tmp_path / "file"):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_leaves_the_lock_of_its_parent(tmp_path):
    with FolderLock(tmp_path) as lock:
        child = os.fork()
        if not child:
            lock.__exit__(None, None, None)
            os._exit(0)
        os.waitpid(child, 0)
        with pytest.raises(InputError, match="in use"), FolderLock(tmp_path):
            pass


def test_a_lock_leaves_that_of_another_folder_of_its_name_alone(tmp_path):
    folder = tmp_path / "run"
    first = FolderLock(folder).__enter__()
    folder.rename(tmp_path / "moved")
    with FolderLock(folder):
        first.__exit__(None, None, None)
        with pytest.raises(InputError, match="in use"), FolderLock(folder):
            pass


def test_a_lock_that_is_a_link_does_not_touch_what_it_leads_to(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    (tmp_path / LOCK).symlink_to(tmp_path / "thesis.txt")
    with pytest.raises(WriteError, match="cannot be written"), FolderLock(tmp_path):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("content", ["years of work", "4711\nyears of work", "\x1b[2J"])
def test_a_file_of_the_locks_name_that_is_none_is_left_alone(tmp_path, content):
    (tmp_path / "thesis").write_text(content)
    (tmp_path / "run").mkdir()
    os.link(tmp_path / "thesis", tmp_path / "run" / LOCK)
    with pytest.raises(InputError, match=r"\.lock is not the lock of a run, .*: move it"), FolderLock(tmp_path / "run"):
        pass
    with (tmp_path / "thesis").open() as file:
        fcntl = pytest.importorskip("fcntl")
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="in use by another run: wait"), FolderLock(tmp_path / "run"):
            pass
    assert (tmp_path / "thesis").read_text() == content


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_cannot_be_a_lock_is_named(tmp_path, make):
    make(tmp_path / LOCK)
    with pytest.raises(WriteError, match=r"\.lock cannot be written"), FolderLock(tmp_path):
        pass


def test_a_folder_whose_link_leads_nowhere_is_told_as_that(tmp_path):
    (tmp_path / "runs").symlink_to(tmp_path / "disk")
    for folder in ("runs", "runs/a/b"):
        with (pytest.raises(WriteError, match=f"{folder} cannot be written: .*/runs is a link to .*/disk, which is"),
              FolderLock(tmp_path / folder)):
            raise AssertionError("it was entered")


def test_a_lock_is_the_folders_owners(tmp_path):
    """Who may have to take it after root was killed in the folder."""
    if os.getuid():
        pytest.skip("only root can write as another user")
    os.chown(tmp_path, 65534, 65534)
    with FolderLock(tmp_path):
        assert (tmp_path / LOCK).stat().st_uid == 65534


def test_a_lock_that_another_user_left_is_removed_unless_it_is_held():
    """In a folder that both may write in; the umask lets others only read what is made there."""
    if os.getuid():
        pytest.skip("only root can be another user")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        code = f"""if 1:
            import os, encodings.ascii, fcntl  # which the other may not be able to read
            from scratchnmt.files.lock import FolderLock
            os.seteuid(65534)
            with FolderLock({name!r}):
                print("in")
        """
        def other():
            return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

        with FolderLock(folder):
            assert f"in use by another run (process {os.getpid()})" in other().stderr
        for content, there in (("4711\n", False), ("years of work", True)):
            (folder / LOCK).write_text(content)
            (folder / LOCK).chmod(0o644)
            assert (other().stdout == "in\n") != there and (folder / LOCK).exists() == there
