"""argparse as this command line wants it: help that keeps its lines, defaults shown, one-line errors."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from ..errors import did_you_mean, encodable
from ..kernels import CHOICES, MATMULS
from ..long_lines import CHOICES as LONG
from ..long_lines import LongLines
from ..parallel.mpi import speaks_first
from ..parallel.ranks import Ranks
from ..parallel.workers import available, check_workers

_ARGUMENTS = {"beam": "beam_size", "no_repeat_ngram": "no_repeat_ngram_size"}  # of options that have another name


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=30)


class Parser(argparse.ArgumentParser):
    """An argument parser whose error is one line, and which takes no abbreviated options."""

    def __init__(self, **options: Any):
        options.setdefault("formatter_class", _Help)
        options.setdefault("allow_abbrev", False)
        super().__init__(**options)
        self.given: set[str] = set()
        for action in (None, "store"):
            self.register("action", action, _Once)

    def parse_known_args(self, *arguments: Any, **more: Any) -> Any:
        self.given.clear()
        for action in self._actions:
            if str(action.metavar).startswith(("FILE", "DIR")):
                action.type = _path
        return super().parse_known_args(*arguments, **more)

    def error(self, message: str) -> NoReturn:
        if wrong := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)$", message):
            message += did_you_mean(wrong[1], re.findall(r"[^\s',]+", wrong[2]))
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n" if speaks_first() else None)

    def _print_message(self, message: str | None, file: Any = None) -> None:
        """As argparse's own, which drops the error of a full disk in some versions."""
        (file or sys.stderr).write(message or "")

    def worded(self, message: str) -> str:
        """A sentence of the library with its arguments as options: "--batch-size" for batch_size, "--one-direction" for
        bidirectional=False.

        An argument that is an English word, such as score, is one at the start, before its value, or beside another.
        """
        options = {_ARGUMENTS.get(action.dest, action.dest): action for action in self._actions
                   if action.option_strings and action.type is not _path}

        def option(match: re.Match[str]) -> str:
            action, name, value = options[match["name"]], match["name"], match["value"]
            flag, rest = action.option_strings[0], message[match.end():]
            if value and action.nargs == 0:
                return flag if value == str(action.const) else match[0]
            if value:
                return f"{flag} {value}"
            begins = match.start() == 0 and rest.startswith((" is ", " must ", " needs "))
            beside = re.search(r"_\w+,?(?: or| and)? $", message[: match.start()])
            return flag if "_" in name or begins or beside or rest.startswith((" '", ' "')) else name

        return re.sub(rf"(?<![\w/.-])(?P<name>{'|'.join(options)})\b(?:='?(?P<value>\w+(?:\.\d+)?)'?)?"
                      r"(?![\w/(-]|\.\w)", option, message)

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """The error for arguments that it does not know."""
        options = [option for action in self._actions for option in action.option_strings]
        name = unknown[0].partition("=")[0]
        hint = did_you_mean(name, options) if name.startswith("-") else ""
        self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")


def _path(text: str) -> str:
    """A path as it was typed; "~" and "~name" at its start, which no shell replaces in --out=~/x, are home folders."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got an empty one")
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        raise argparse.ArgumentTypeError(f"{text}: nobody with such a home folder is known; ./{text} is a name that "
                                         "begins with ~")
    return expanded


class _Once(argparse.Action):
    """Stores a value; a second one would replace the first without a word, so it is an error."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, value: Any, option: str | None = None) -> None:
        if option and self.dest in parser.given and getattr(namespace, self.dest) != value:
            parser.error(f"{option} is given twice, with different values")
        parser.given.add(self.dest)
        setattr(namespace, self.dest, value)


class OneOrSeveral(_Once):
    """Of an option with nargs="+": one value is itself, several are a list."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, value: Any, option: str | None = None) -> None:
        super().__call__(parser, namespace, value[0] if len(value) == 1 else value, option)


def several(value: Any) -> list[Any]:
    """What `OneOrSeveral` has stored, always as a list; of None nothing."""
    return [] if value is None else value if isinstance(value, list) else [value]


def warn(args: argparse.Namespace, text: str) -> None:
    """On standard error, on a line of its own, after the command's name."""
    print(f"{args.parser.prog}: warning: {encodable(text)}", file=sys.stderr, flush=True)


def add_option(group: Any, name: str, default: Any, text: str, **options: Any) -> None:
    """Add --name to a parser or group; its help ends in the default, its type is the default's.

    A default of False makes a flag.  argument_default=SUPPRESS: leave an option that was not given out of
    the result, so that a given one can be told from a default.
    """
    flag = "--" + name.replace("_", "-")
    if options.pop("argument_default", None) == argparse.SUPPRESS:
        options["default"] = argparse.SUPPRESS
    else:
        options["default"] = default
    if default is False:
        group.add_argument(flag, action="store_true", help=text, **options)
        return
    shown = f"{default:g}" if isinstance(default, float) else default
    text = text if default is None else f"{text} (default: {shown})"
    if "choices" in options:
        options["metavar"] = "|".join(options["choices"])
    elif isinstance(default, (int, float)):
        options.setdefault("type", type(default))
    options.setdefault("metavar", "N" if options.get("type") in (int, float) else None)
    group.add_argument(flag, help=text.replace("%", "%%"), **options)


def add_device(group: Any, **options: Any) -> None:
    add_option(group, "device", "cpu", "device: cpu, cuda or cuda:N", metavar="NAME", **options)


def add_workers(group: Any, **options: Any) -> None:
    add_option(group, "workers", "auto", "worker processes, each with one BLAS thread (or as many as OMP_NUM_THREADS "
               "or OPENBLAS_NUM_THREADS says), on the CPU; auto: one for each core, if there is enough work",
               metavar="N|auto", type=_workers, **options)


def _workers(text: str) -> Any:
    if text != "auto" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number or auto, got {text!r}")
    return text if text == "auto" else int(text)


def workers_of(given: Mapping[str, Any], ranks: Ranks | None = None) -> int:
    """The value of `add_workers` among others'; "auto": as many as there can be."""
    device, workers = given.get("device", "cpu"), given.get("workers", "auto")
    most = available(ranks, device)
    if workers == "auto":
        return most
    check_workers(workers, device)
    return int(workers)


COMPUTING = ("device", "kernels", "matmul")


def add_computing(group: Any, **options: Any) -> None:
    """--device and the further options of how a model computes."""
    add_device(group, **options)
    add_option(group, "kernels", None, "plain array code, or CUDA kernels: fused; persistent: fused, with all steps of "
               "an encoder's layer in one launch and a decoder's step in three, which no card has run yet (default: "
               "fused on a GPU)", choices=CHOICES, **options)
    add_option(group, "matmul", MATMULS[0],
               "precision of matrix products with fused kernels: tf32 is faster and less exact",
               choices=MATMULS, **options)


def computing(given: Mapping[str, Any], ranks: Ranks | None = None) -> dict[str, Any]:
    """The values of `add_computing` among others', as NMT takes them; of several ranks each has a card of its own."""
    chosen = {name: given[name] for name in COMPUTING if name in given}
    return chosen | {"device": ranks.device(chosen["device"])} if ranks and "device" in chosen else chosen


TOKENIZE = ("sacreBLEU's tokenizer, which finds the words of BLEU; auto: by the script of the references, zh for "
            "Chinese, char for Japanese, Thai and others without spaces, else 13a")


def add_models(group: Any, text: str = "an ensemble, which averages their probabilities") -> None:
    """--model, of one folder or several; `text` says what several make together."""
    group.add_argument("--model", required=True, nargs="+", action="extend", metavar="DIR",
                       help=f"a folder that `scratchnmt train` wrote; of several: {text}")


def add_search_options(group: Any) -> None:
    """The options of beam search that `translate` and `evaluate` share."""
    add_option(group, "beam", 5, "beam size; 1, without a length penalty, is greedy search")
    add_option(group, "length_penalty", 0.0, "alpha of the length penalty (Wu et al. 2016: 0.6 to 1); 0: none, "
               "larger favours longer translations")
    add_option(group, "max_length", None, "maximum length of a translation in tokens, </s> included (default: 2 S + 10 "
               "of a source of S tokens, but at least --min-length + 10); with --long, of a source, too", type=int)
    add_option(group, "min_length", 0, "minimum length of a translation in tokens before </s>")
    add_option(group, "no_repeat_ngram", 0, "leave out translations in which N tokens (words, or pieces of words) in a "
               "row come twice; 0: none")
    add_option(group, "long", None, "what to do with a source line of more than --max-length tokens, or of more than "
               "fit into memory or than the model knows: crop it, skip it (an empty line), or stop (default: crop, but "
               "only what does not fit)", choices=LONG)
    add_option(group, "batch_size", 64, "batch size, in sentences")


def search_options(args: argparse.Namespace) -> dict[str, Any]:
    """The values of `add_search_options`, as Translator.translate takes them."""
    return {"beam_size": args.beam, "length_penalty": args.length_penalty, **sampling_options(args)}


def sampling_options(args: argparse.Namespace) -> dict[str, Any]:
    """Those of them that are not of a beam."""
    return {"max_length": args.max_length, "min_length": args.min_length, "no_repeat_ngram_size": args.no_repeat_ngram,
            "batch_size": args.batch_size}


def long_lines(args: argparse.Namespace, default: str = "crop", warns: bool = True) -> LongLines:
    """What --long and --max-length say of long lines; a warning of each that is cropped or skipped, if it `warns`."""
    def tell(text: str) -> None:
        if warns:
            warn(args, text)

    return LongLines(args.long, args.max_length, tell) if args.long else LongLines(default, None, tell)


def add_remove_bpe(group: Any) -> None:
    """--remove-bpe, which `translate` and `evaluate` share."""
    add_option(group, "remove_bpe", False, "join the parts of words, of a text that was segmented before training: "
               "\"@@ \" of subword-nmt, or \"\u2581\" of SentencePiece")


def add_replacing(group: Any) -> None:
    """The options of unknown words that `translate` and `evaluate` share."""
    add_option(group, "replace_unknown", False, "replace <unk> by the source word with the largest attention weight")
    group.add_argument("--dictionary", metavar="FILE", help="with --replace-unknown: replace it by its translation, if "
                       "FILE has a line WORD<tab>TRANSLATION (of several lines the first counts)")


def replacing(args: argparse.Namespace) -> dict[str, Any]:
    """The values of `add_replacing`, the dictionary read, as Translator.translate takes them."""
    from ..unknown import read_dictionary

    dictionary = None if args.dictionary is None else read_dictionary(args.dictionary)
    return {"replace_unknown": args.replace_unknown, "dictionary": dictionary}
