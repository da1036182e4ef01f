"""A fuzzer that watches which lines a spoilt file reaches, and goes on from those that reach new ones.

    pip install atheris
    python tests/stress/guided.py --seconds 60 [--target config]

Anything but an InputError ends it, with the input in a file of its own.  What was found once is in tests/test_fuzz.py.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

TARGETS = ("config", "words", "pieces", "tensors", "text", "state_dict", "vocab_json", "network")


def run_one(name: str, seconds: int, seed: int) -> int:
    """Fuzz one target in a process of its own; its exit status."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--inside", name, folder, f"-max_total_time={seconds}", f"-seed={seed}",
                   "-timeout=10", "-rss_limit_mb=1000", "-print_final_stats=1", "-artifact_prefix=./",
                   "-max_len=100000"]
        found = subprocess.run(command, capture_output=True, text=True, env=os.environ)
        stats = dict(line.removeprefix("stat::").split(":", 1)
                     for line in found.stderr.splitlines() if line.startswith("stat::"))
        coverage = [line for line in found.stderr.splitlines() if "cov:" in line]
        print(f"{name}: {int(stats.get('number_of_executed_units', 0)):,} inputs, "
              f"{coverage[-1].split('cov:')[1].split()[0] if coverage else '?'} branches reached, "
              f"{stats.get('peak_rss_mb', '?').strip()} MB at most, "
              + ("no finding" if found.returncode == 0 else f"FOUND:\n{found.stderr[-3000:]}"), flush=True)
        return found.returncode


def inside(name: str, folder: Path, arguments: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(include=["scratchnmt"]):
        import scratchnmt.data.text as text
        import scratchnmt.data.vocab as vocab
        import scratchnmt.files.run_folder as run_folder
        import scratchnmt.files.tensors as tensors
        import scratchnmt.interop.cs224n as cs224n
        import scratchnmt.interop.torch_file as torch_file
        import scratchnmt.interop.unpickle  # noqa: F401
        import scratchnmt.sequential.saving as saving
    from mutations import targets

    from scratchnmt.errors import InputError

    made = {key: target.path for key, target in targets(folder).items()}
    run = made["words: config.json"].parent
    cs = folder / "vocab.json"
    cs.write_text('{"src_word2id": {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "a": 4}, '
                  '"tgt_word2id": {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "b": 4}}')
    where, load = {
        "config": (made["words: config.json"], lambda path: run_folder.RunFolder(run).read()),
        "words": (made["vocabulary alone: words"], vocab.load_vocabulary),
        "pieces": (made["vocabulary alone: pieces"], vocab.load_vocabulary),
        "tensors": (made["words: model.safetensors"], tensors.read_tensors),
        "text": (made["text"], lambda path: (list(text.stream_lines(path)), text.read_lines(path))),
        "state_dict": (made["pytorch_model.bin"], torch_file.read_state_dict),
        "vocab_json": (cs, cs224n.read_cs224n_vocabularies),
        "network": (made["sequential: network.safetensors"], saving.load_model),
    }[name]
    seeds = folder / "seeds"
    seeds.mkdir()
    (seeds / "right").write_bytes(where.read_bytes())
    if name == "config":  # one without a checksum comes farther
        (seeds / "first").write_bytes(made["first version: config.json"].read_bytes())

    def one(data: bytes) -> None:
        where.write_bytes(data)
        with suppress(InputError):
            load(where)

    atheris.Setup([sys.argv[0], *arguments, str(seeds)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60, help="of each target")
    parser.add_argument("--target", action="append", choices=TARGETS)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    statuses = [run_one(name, options.seconds, options.seed) for name in options.target or TARGETS]
    sys.exit(any(statuses))
