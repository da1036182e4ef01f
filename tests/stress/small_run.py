"""A training of a few seconds by the command line, and what must come out of it however often it is interrupted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from scratchnmt.cli.demo import write_corpus
from scratchnmt.data.toy import toy_corpus
from scratchnmt.files.tensors import read_tensors

ROOT = Path(__file__).parents[2]


def corpus(folder: Path) -> list[str]:
    """Arguments of a run on a small corpus that is written to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    files = write_corpus(folder, toy_corpus(train=640, valid=40, test=10))
    data = [part for name, path in files.items() for part in ("--" + name.replace("_", "-"), path)]
    return [*data, "--vocab", "word", "--embed-size", "16", "--hidden-size", "16", "--batch-size", "16",
            "--average", "0.9", "--learning-rate", "0.005", "--dropout", "0.2", "--patience", "3", "--trials", "9"]


def start(out: Path, arguments: list[str], program: tuple[str, ...] = ("-m", "scratchnmt")) -> subprocess.Popen:
    """`scratchnmt train` in a process of its own, one thread for products."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, *program, "train", "--out", str(out), *arguments], env=environment,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen) -> None:
    _, error = process.communicate()
    if process.returncode:
        raise SystemExit(f"a run ended with {process.returncode}: {error.decode()[-2000:]}")


def essence(out: Path) -> dict[str, object]:
    """The bytes of the model, the metrics and the state without times."""
    tensors, info = read_tensors(out / "training-state.safetensors")
    state = {k: v for k, v in info["state"].items() if k not in ("seconds", "history")}
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {"model.safetensors": (out / "model.safetensors").read_bytes(),
            "metrics.jsonl": [{k: v for k, v in record.items() if k != "seconds"} for record in records],
            "training-state.safetensors": ({name: t.tobytes() for name, t in tensors.items()}, state,
                                           info["optimizer"])}


def differences(out: Path, whole: Path) -> list[str]:
    """The names of what is not the same."""
    found, expected = essence(out), essence(whole)
    return [name for name in expected if found[name] != expected[name]]


def resume_arguments(out: Path, arguments: list[str]) -> list[str]:
    """How a careful person goes on: --resume; from the start if it was killed too early for that."""
    return ["--resume"] if (out / "config.json").exists() else [*arguments, "--overwrite"]
