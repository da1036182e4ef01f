"""scratchnmt demo: everything once, on a small English-French corpus that the package makes itself."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, encodable
from ..streams import quoted
from .parser import Parser, add_option

if TYPE_CHECKING:
    from ..data.toy import ToyCorpus
    from ..translate import Translator

HELP = "learn a little French in about a minute: train, translate, look at the attention, check the gradients"
USAGE = "scratchnmt demo [--out DIR] [--seed N]"
EPILOG = """\
Nothing is downloaded: a small grammar makes the sentences, and none of those that are translated at the end
occurs in training.  The folder is that of a normal training run; a second demo writes it anew.

example:
  scratchnmt demo
  echo "the white cat does not sleep ." | scratchnmt translate --model scratchnmt-demo"""

CHOICES = {"vocab": "word", "min_count": 1, "embed_size": 128, "hidden_size": 128, "dropout": 0.2,
            "init": "glorot", "learning_rate": 0.004, "schedule": "cosine", "warmup": 100, "pool": 100,
            "max_epochs": 7, "patience": 0, "log_every": 1_000_000}
_ATTENTION, _PAGE = "attention.png", "microscope.html"
_SIZES = {"train": 10_000, "valid": 300, "test": 500}
_BUGS = "all"  # of the museum, on the page
_MARK, _MARK_TEXT = "README.txt", "Everything in this folder was written by `scratchnmt demo`"
# what the three sentences that are shown have in common
_SHOWN = (r"^(?=.* 's )(?=.* (do|does) not ).{30,55}$", r"^.{,30} but (do|does) not \w+ (it|them) \.$",
          r"^(do|does|did) .*\b(red|white|black|green|blue)\b.{,40}$")


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--out", default="scratchnmt-demo", metavar="DIR",
                        help="folder to write to (default: scratchnmt-demo)")
    add_option(parser, "seed", 0, "random seed, of the sentences, initialization and batch order")


def run(args: argparse.Namespace) -> int:
    from ..data.toy import toy_corpus
    from ..errors import require
    from ..files.run_folder import RunFolder
    from ..training import TrainingOptions
    from ..translate import Translator
    from .prepare import prepare
    from .train import describe, resume_command, start

    for package in ("sacrebleu", "safetensors", "tqdm", "matplotlib"):
        require(package, extra="train")
    TrainingOptions(seed=args.seed)
    folder = Path(args.out)
    _check_folder(folder)
    corpus = toy_corpus(seed=args.seed, **_SIZES)
    choices = {**CHOICES, "seed": args.seed}
    with RunFolder(folder, overwrite=True) as opened:  # before a file is written: another demo may be in it
        files = write_corpus(folder, corpus)
        _head("Sentences that a small grammar makes, for example")
        print(f"  {corpus.train.src[0]}\n  {corpus.train.tgt[0]}\n")
        ready = prepare(opened, {**files, **choices})
        print(describe(ready))
        _head("Training, about a minute")
        go_on = resume_command(args.out, 1, {})
        result = start(ready, opened, go_on)
    out = quoted(args.out)
    if result.interrupted:
        print(f"stopped; `scratchnmt demo --out {out}` starts again, or go on with\n  {go_on}")
        return 130

    translator = Translator.load(folder)
    _score(translator, corpus)
    _show_translations(translator, corpus, folder, result.curves)
    right = _check_gradients(translator, corpus)
    _look_inside(translator, corpus, folder)
    _say_next(out, {**files, **choices})
    return 0 if right else 1


def _head(text: str) -> None:
    print(f"\n== {text}", flush=True)


def _check_folder(folder: Path) -> None:
    """InputError unless the folder is new, empty or the work of an earlier demo."""
    from ..files.lock import LOCK
    from ..files.run_folder import CONFIG, RunFolder

    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, expected a folder to write the demo to")
    left = re.compile(rf"{re.escape(LOCK)}|\.{re.escape(_MARK)}\..*\.tmp")  # by one that was killed
    if not folder.exists() or all(left.fullmatch(path.name) for path in folder.iterdir()):
        return
    mark = folder / _MARK
    ours = mark.is_file() and mark.read_bytes().startswith(_MARK_TEXT.encode())
    if ours and (folder / CONFIG).exists():
        try:
            origin = RunFolder(folder).read().data.get("train_src", "")
            ours = Path(origin).name == "train.en" and Path(origin).parent.name == folder.resolve().name
        except InputError:
            pass  # a damaged demo may be written anew
    if not ours:
        raise InputError(f"{folder} holds something else than a demo: choose another folder with --out")


def write_corpus(folder: Path, corpus: ToyCorpus) -> dict[str, str]:
    """Write the sentences; the paths that `scratchnmt train` asks for."""
    from ..files.atomic import not_written, remove_temporaries, write_atomically

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_written(folder, error) from error
    texts = [f"{split}.{language}" for split in corpus._fields for language in ("en", "fr")]
    for name in (_MARK, *texts, _ATTENTION, _PAGE):
        remove_temporaries(folder / name)
    write_atomically(folder / _MARK, f"{_MARK_TEXT}, which will overwrite it.\n".encode())
    for split, lines in corpus._asdict().items():
        for language, side in (("en", lines.src), ("fr", lines.tgt)):
            write_atomically(folder / f"{split}.{language}", ((line + "\n").encode() for line in side))
    return {f"{split}_{side}": str(folder / f"{split}.{language}")
            for split in ("train", "valid") for side, language in (("src", "en"), ("tgt", "fr"))}


def _score(translator: Translator, corpus: ToyCorpus) -> None:
    from ..metrics import corpus_bleu

    src, ref = corpus.test
    translations = translator.translate(src)
    bleu = corpus_bleu(translations, ref)
    exact = sum(a == b for a, b in zip(translations, ref, strict=True))
    _head(f"{len(src)} sentences that it has never seen, by beam search")
    print(f"BLEU {bleu.score:.1f} ({bleu.signature})\n"
          f"{exact} of {len(src)} translations are exactly the reference")


def _show_translations(translator: Translator, corpus: ToyCorpus, folder: Path, curves: Path | None) -> None:
    from ..plots import attention_map, attention_text

    _head("Where each French word looked (darker is more)")
    for number, i in enumerate(_example_sentences(corpus.test.src)):
        attended = translator.translate_with_attention(corpus.test.src[i])
        reference = corpus.test.tgt[i]
        verdict = "as in the reference" if attended.text == reference else f"the reference is: {reference}"
        print(f"\n{corpus.test.src[i]}\n{attended.text}   ({verdict})\n")
        print(attention_text(*attended[1:]))
        if number == 0:
            attention_map(*attended[1:], folder / _ATTENTION)
    print(encodable(f"\npictures: {folder / _ATTENTION} (the first of these)" + f", {curves}" * bool(curves)))


def _example_sentences(sentences: list[str]) -> list[int]:
    """The first of each pattern; if a seed has none, the first of all."""
    chosen = [next((i for i, line in enumerate(sentences) if re.match(pattern, line)), 0)
              for pattern in _SHOWN]
    return list(dict.fromkeys(chosen))


def _check_gradients(translator: Translator, corpus: ToyCorpus) -> bool:
    """Of the trained model, on four held-out sentences."""
    from ..data.encode import encode_parallel
    from ..selfcheck import check_model

    four = (corpus.test.src[:4], corpus.test.tgt[:4])
    examples, _ = encode_parallel(*four, translator.src_vocab, translator.tgt_vocab)
    batch = examples.batch(range(len(examples)))
    report = check_model(translator.model, batch.src, batch.src_lengths, batch.tgt)
    _head("The gradients of this very model, by hand and by complex-step differentiation")
    if report.ok:
        print(f"{len(report.tensors)} tensors of {report.elements:,} weights agree: largest relative error "
              f"{report.max_error:.0e}, tolerance {report.rtol:.0e}")
    else:
        print(report)
    return report.ok


def _look_inside(translator: Translator, corpus: ToyCorpus, folder: Path) -> None:
    """A page on one step of the trained model."""
    from ..microscope import Microscope

    _head("One training step, to be looked into")
    shown = _example_sentences(corpus.test.src)[0]
    pair = corpus.test.src[shown], corpus.test.tgt[shown]
    microscope = Microscope(translator.model, translator.src_vocab, translator.tgt_vocab, [pair], title=folder.name,
                            bugs=_BUGS)
    page = folder / _PAGE
    microscope.save(page)
    print(encodable(f"{page}: open it in a browser.  Every number of this step, its gradient, where that comes from,\n"
                    "and what happens to it under real bugs.  Of your own sentence: scratchnmt microscope --help"))


def _say_next(out: str, choices: dict[str, Any]) -> None:
    options = [f"--{name.replace('_', '-')} {quoted(str(value))}" for name, value in choices.items()
               if name != "log_every"]
    lines = [""]
    for option in [*options, "--out runs/mine"]:
        if len(lines[-1]) + len(option) > 85:
            lines[-1] += " \\"
            lines.append("       ")
        lines[-1] += " " + option
    _head("Try next")
    print(f"""\
your own sentence, with the picture of its attention:
  echo "the white cat does not see my small dog ." | scratchnmt translate --model {out} --attention cat.png
all measures on the held-out sentences:
  scratchnmt evaluate --model {out} --src {out}/test.en --ref {out}/test.fr
every operation's gradient:
  scratchnmt gradcheck
the training of this demo, as a command; put in your own files:
  scratchnmt train{chr(10).join(lines)}""")
