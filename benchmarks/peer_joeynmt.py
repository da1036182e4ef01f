"""JoeyNMT 2.3 as a contestant of `train` and `decode`: its own recurrent model, of the same sizes, step and search.

Not the same function: its first states go through a tanh with a bias, the attentional layer has a bias.  So nothing is
compared before it is timed.  It wants sentencepiece 0.2.0, so an environment of its own with scratchnmt in PYTHONPATH.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import torch
from joeynmt.batch import Batch
from joeynmt.model import build_model
from joeynmt.search import search
from joeynmt.vocabulary import Vocabulary
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pad_sequence

from scratchnmt.models.nmt import NMT

UNK, PAD, BOS, EOS = range(4)
OF_OURS = np.array([PAD, BOS, EOS, UNK])


class Contestant:
    name = "JoeyNMT"
    version = "2.3"

    def __init__(self, model: NMT, threads: int, clip: float = 5.0) -> None:
        torch.set_num_threads(threads)
        c = model.config
        half = {"embeddings": {"embedding_dim": c.embed_size, "dropout": 0.0}, "rnn_type": "lstm", "num_layers": 1,
                "hidden_size": c.hidden_size, "dropout": c.dropout, "type": "recurrent"}
        network = {"encoder": half | {"bidirectional": True},
                   "decoder": half | {"hidden_dropout": c.dropout, "attention": "luong", "input_feeding": True,
                                      "init_hidden": "bridge"}}
        self.model = build_model(network, _vocabulary(c.src_vocab_size), _vocabulary(c.tgt_vocab_size))
        self.model.loss_function = ("crossentropy", c.label_smoothing)
        self.clip, self.optimizer = clip, torch.optim.Adam(self.model.parameters(), lr=1e-3)

    def epochs(self, src_ids: list[list[int]], tgt_ids: list[list[int]], batch_size: int,
               seed: int = 0) -> Iterator[int]:
        """Random batches, as its TrainManager takes them, for ever; yields the target tokens of every step."""
        rng = np.random.default_rng(seed)
        self.model.train()
        while True:
            order = rng.permutation(len(src_ids))
            for start in range(0, len(order), batch_size):
                yield self._step(_batch(src_ids, tgt_ids, order[start : start + batch_size]))

    def _step(self, batch: Batch) -> int:
        batch.sort_by_src_length()
        loss, _, _, correct = self.model(return_type="loss", **vars(batch))
        batch.normalize(loss, "batch").backward()
        loss.item(), correct.item()
        clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        self.model.zero_grad()
        return batch.ntokens

    def search_batches(self, sentences: list[list[int]], beam_size: int, max_steps: int, batch_size: int) -> list:
        """Its weights are random: only beside searches that run to their limit of steps does this compare."""
        self.model.eval()
        order = sorted(range(len(sentences)), key=lambda i: -len(sentences[i]))
        return [found for start in range(0, len(order), batch_size) for found in search(
            self.model, _batch(sentences, [[]] * len(sentences), np.array(order[start : start + batch_size])),
            max_output_length=max_steps, beam_size=beam_size, beam_alpha=-1)[0]]

    def close(self) -> None:
        """Nothing to give back."""


def _vocabulary(size: int) -> Vocabulary:
    special = SimpleNamespace(unk_token="<unk>", pad_token="<pad>", bos_token="<s>", eos_token="</s>", sep_token=None,
                              lang_tags=[], unk_id=UNK, pad_id=PAD, bos_id=BOS, eos_id=EOS)
    return Vocabulary([str(i) for i in range(4, size)], special)


def _batch(src_ids: list[list[int]], tgt_ids: list[list[int]], chosen: np.ndarray) -> Batch:
    """Its sentences end in </s> on either side."""
    theirs = lambda ids: [int(OF_OURS[i]) if i < 4 else i for i in ids] + [EOS]
    src = [torch.tensor(theirs(src_ids[i])) for i in chosen]
    tgt = [torch.tensor([BOS, *theirs(tgt_ids[i])]) for i in chosen]
    pad = lambda rows: pad_sequence(rows, batch_first=True, padding_value=PAD)
    return Batch(pad(src), torch.tensor([len(ids) for ids in src]), None, pad(tgt), None,
                 torch.from_numpy(np.array(chosen)), torch.device("cpu"), PAD, EOS)
