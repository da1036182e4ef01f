"""scratchnmt import-cs224n: a model that CS224N's assignment 4 trained in PyTorch, as a folder of ours."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..errors import InputError, encodable, shown
from .parser import Parser, add_option

HELP = "make a model of the weights that CS224N's assignment 4 trained in PyTorch"
USAGE = "scratchnmt import-cs224n --weights FILE --vocab FILE --out DIR [options]"
EPILOG = """\
The weights are a file of safetensors, or one of torch.save, which is read without running what is pickled in
it: a file that wants more than tensors and plain values is refused.  PyTorch is not needed.

The shapes do not tell in which order the assignment's code joined the attention's output a and the decoder's
state h before combined_output_projection: cat([a_t, dec_hidden]) is a,h, the handout's order, and
cat([dec_hidden, a_t]) is h,a.  With the wrong one the model translates badly: compare with `evaluate`.

example:
  scratchnmt import-cs224n --weights model.bin --vocab vocab.json --out runs/cs224n
  scratchnmt evaluate --model runs/cs224n --src test.es --ref test.en"""


def add_arguments(parser: Parser) -> None:
    given = parser.add_argument_group("what the assignment wrote")
    given.add_argument("--weights", required=True, metavar="FILE", help="model.bin, or a state_dict as .safetensors")
    given.add_argument("--vocab", required=True, metavar="FILE", help="its vocab.json")
    add_combined(given)
    output = parser.add_argument_group("output")
    output.add_argument("--out", required=True, metavar="DIR", help="a new folder, for translate and evaluate")


def add_combined(group: Any) -> None:
    """--combined, of both commands."""
    add_option(group, "combined", "a,h", "order in which its code joins a and h", choices=("a,h", "h,a"))


def run(args: argparse.Namespace) -> int:
    from ..checkpoint import save_new_model
    from ..interop import nmt_from_pytorch, read_cs224n_vocabularies, read_state_dict

    _check_folder(args.out)
    src, tgt = read_cs224n_vocabularies(args.vocab)
    tensors, told = read_state_dict(args.weights)
    dropout = told.get("dropout_rate", 0.0)
    try:
        model = nmt_from_pytorch(tensors, combined=args.combined,
                                 dropout=dropout if isinstance(dropout, float) and 0 <= dropout < 1 else 0.0)
    except InputError as error:
        raise InputError(f"{args.weights}: {error}") from error
    _fit(model, src, tgt, args)
    save_new_model(args.out, model, src.vocabulary, tgt.vocabulary)
    for side, words in (("source", src), ("target", tgt)):
        if words.changed:
            some = ", ".join(f"{shown(word)} as {shown(ours)}" for word, ours in list(words.changed.items())[:3])
            print(f"{len(words.changed)} {side} words are written differently here: {some}", file=sys.stderr)
    config = model.config
    print(f"{encodable(args.out)}: {model.params.flat.size:,} weights, embed_size {config.embed_size}, hidden_size "
          f"{config.hidden_size}, {config.src_vocab_size:,} source and {config.tgt_vocab_size:,} target words, "
          f"combined {args.combined}")
    return 0


def _fit(model: Any, src: Any, tgt: Any, args: argparse.Namespace) -> None:
    """Put the rows of the embeddings and the columns of the vocabulary's weights into our order of the words."""
    params, config = model.params, model.config
    for side, words, size in (("source", src, config.src_vocab_size), ("target", tgt, config.tgt_vocab_size)):
        if len(words.vocabulary) != size:
            raise InputError(f"{args.vocab} has {len(words.vocabulary):,} {side} words, {args.weights} an embedding of "
                             f"{size:,}: they do not belong together")
    params["embed.src"][...] = params["embed.src"][src.order]
    params["embed.tgt"][...] = params["embed.tgt"][tgt.order]
    params["vocab.W"][...] = params["vocab.W"][:, tgt.order]


def _check_folder(out: str) -> None:
    folder = Path(out)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{out} is there already: choose a new folder")
