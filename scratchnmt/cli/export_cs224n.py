"""scratchnmt export-cs224n: a model of ours as weights that CS224N's PyTorch code loads."""

from __future__ import annotations

import argparse
import os

from ..errors import InputError, encodable
from .import_cs224n import add_combined
from .parser import Parser

HELP = "write a model's weights so that CS224N's PyTorch code can load them"
USAGE = "scratchnmt export-cs224n --model DIR --out FILE --vocab-out FILE [options]"
EPILOG = """\
This is for models as the course has them, which `scratchnmt train` makes unless it is told otherwise.  In PyTorch:
  model.load_state_dict(safetensors.torch.load_file("cs224n.safetensors"))

example:
  scratchnmt export-cs224n --model runs/en-de --out cs224n.safetensors --vocab-out vocab.json"""


def add_arguments(parser: Parser) -> None:
    given = parser.add_argument_group("what to write")
    given.add_argument("--model", required=True, metavar="DIR", help="a folder that `scratchnmt train` wrote")
    add_combined(given)
    output = parser.add_argument_group("output")
    output.add_argument("--out", required=True, metavar="FILE", help="the state_dict, .safetensors")
    output.add_argument("--vocab-out", required=True, metavar="FILE",
                        help="its vocab.json; of SentencePiece's vocabularies the pieces")


def run(args: argparse.Namespace) -> int:
    from ..checkpoint import load_model
    from ..errors import require
    from ..files.atomic import write_atomically
    from ..interop import nmt_to_pytorch, write_cs224n_vocabularies
    from ..interop.cs224n import differences_from_cs224n
    from .output import check_output

    for path in (args.out, args.vocab_out):
        check_output(path)
    if os.path.realpath(args.out) == os.path.realpath(args.vocab_out):
        raise InputError(f"--out and --vocab-out are both {args.out}")
    if not args.out.endswith(".safetensors"):
        raise InputError(f"{args.out} does not end in .safetensors, which is what is written")
    save = require("safetensors.numpy", extra="train").save
    model, src_vocab, tgt_vocab = load_model(args.model)
    if different := differences_from_cs224n(model.config):
        told = ", ".join(f"{name} = {value}" for name, value in different.items())
        raise InputError(f"the model in {args.model} has {told}: CS224N's code has no such model")
    weights = save(nmt_to_pytorch(model, combined=args.combined), metadata={"format": "pt"})
    write_atomically(args.out, weights)
    write_cs224n_vocabularies(args.vocab_out, src_vocab, tgt_vocab)
    config = model.config
    print(f"{encodable(f'{args.out}, {args.vocab_out}')}: embed_size {config.embed_size}, hidden_size "
          f"{config.hidden_size}, dropout_rate {config.dropout:g}, combined {args.combined}")
    return 0
