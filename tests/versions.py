"""The tests' smoke test with the oldest versions that setup.cfg admits, on Python 3.10, and the newest, on 3.13.

    python tests/versions.py [WHEEL]

Each gets an environment of its own, with the wheel or, without one, with what is built from this folder.  A Python that
is not there is left out: it is looked for by its name, python3.10, and among the versions of pyenv.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = "[keras,test]"
TESTS = ("tests/test_end_to_end.py", "tests/data/test_vocab.py", "tests/gradcheck/test_plugin.py",
         "tests/gradcheck/test_strategies.py")
ENVIRONMENTS = {"3.10": ("--constraint", ROOT / "tests" / "oldest-requirements.txt"), "3.13": ()}


def interpreter(version: str) -> str | None:
    """The path of this version of Python, if it is there and runs."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for path in (shutil.which(f"python{version}"), *pyenv.glob(f"versions/{version}.*/bin/python")):
        if path and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
            return str(path)
    return None


def run(*command: str | Path) -> None:
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})


def main(package: str = str(ROOT)) -> None:
    for version, options in ENVIRONMENTS.items():
        print(f"Python {version}, {'oldest' if options else 'newest'} versions", flush=True)
        if not (path := interpreter(version)):
            print("    is not there: left out")
            continue
        with tempfile.TemporaryDirectory() as folder:
            python = Path(folder) / "bin" / "python"
            run(path, "-m", "venv", folder)
            run(python, "-m", "pip", "install", "--quiet", *options, package + EXTRAS)
            run(python, "-m", "pytest", "--quiet", *TESTS)


if __name__ == "__main__":
    main(*sys.argv[1:])
