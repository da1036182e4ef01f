"""The archive of the sources holds all that the tests need; .ci/run builds it and runs some of them."""

import re
import shutil
import subprocess
import sys
import tarfile
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("benchmarks", "docs", "scratchnmt", "tests")
FILES = ("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "MANIFEST.in", "README.md", "README.zh-CN.md", "pyproject.toml",
         "ruff.toml", "setup.cfg")
MADE = shutil.ignore_patterns("__pycache__", "*.py[co]", ".*")


def test_every_file_is_in_it(tmp_path):
    pytest.importorskip("setuptools")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, tmp_path / "source" / name, ignore=MADE)
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path / "source")
    build = "import sys, setuptools.build_meta as build; build.build_sdist(sys.argv[1])"
    here = {path.relative_to(tmp_path / "source") for path in (tmp_path / "source").rglob("*") if path.is_file()}
    subprocess.run([sys.executable, "-c", build, tmp_path], cwd=tmp_path / "source", check=True, capture_output=True)
    (made,) = tmp_path.glob("scratchnmt-*.tar.gz")
    with tarfile.open(made) as archive:
        inside = {Path(*Path(member.name).parts[1:]) for member in archive if member.isfile()}
    assert here <= inside, sorted(here - inside)[:10]


def test_the_oldest_versions_that_are_tried_are_those_that_are_admitted():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"]
    lines = [setup["options"]["install_requires"], *(extras.get(name, raw=True) for name in ("train", "keras", "test"))]
    floors = dict(line.split(">=") for line in "\n".join(lines).split() if line != "%(train)s")
    pins = (ROOT / "tests" / "oldest-requirements.txt").read_text(encoding="utf-8").split("\n")[1:]
    tried = dict(pin.split("==") for pin in pins if pin)
    assert tried.keys() == floors.keys()
    for name, floor in floors.items():
        assert re.fullmatch(re.escape(floor) + r"(\.0)*", tried[name]), f"{name}>={floor} is tried with {tried[name]}"
