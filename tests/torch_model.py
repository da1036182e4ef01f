"""An independent witness: the model of CS224N's assignment 4 in PyTorch, as its users write it.

Written from the course's equations and from PyTorch's own modules, so that it shares nothing with
scratchnmt but the mathematics.  With the default configuration its state_dict has CS224N's names.
Keyword arguments are spelled as those of scratchnmt.NMT.  All sequences are time-major.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

PAD = 0


class UpperLayer(nn.Module):
    """One more decoder layer on top of the first, with the map that gives its first state."""

    def __init__(self, hidden_size: int, memory_size: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(hidden_size, hidden_size)
        self.h_projection = nn.Linear(memory_size, hidden_size, bias=False)
        self.c_projection = nn.Linear(memory_size, hidden_size, bias=False)


class TorchNMT(nn.Module):
    """Bidirectional LSTM encoder, LSTM decoder with input feeding, attention of Luong, Bahdanau or Vaswani et al."""

    def __init__(self, src_vocab_size: int, tgt_vocab_size: int, embed_size: int, hidden_size: int, *,
                 layers: int = 1, bidirectional: bool = True, score: str = "general",
                 feed: str = "output", dropout: float = 0.0, embed_dropout: float = 0.0,
                 tie_embeddings: bool = False, label_smoothing: float = 0.0, readout: str = "output",
                 reverse_source: bool = False, max_source: int = 128, attention: str = "global", window: int = 10,
                 query: str = "state", heads: int = 4) -> None:
        super().__init__()
        E, H = embed_size, hidden_size
        directions = 2 if bidirectional else 1
        encoder_size = H // directions if score == "dot" else H  # dot compares h with h_enc itself
        M = directions * encoder_size
        self.layers, self.score, self.feed, self.label_smoothing = layers, score, feed, label_smoothing
        self.readout, self.reverse_source = readout, reverse_source
        self.attention, self.window, self.asks_before = attention, window, query == "previous"
        self.model_embeddings = nn.ModuleDict({
            "source": nn.Embedding(src_vocab_size, E, padding_idx=PAD),
            "target": nn.Embedding(tgt_vocab_size, E, padding_idx=PAD)})
        self.encoder = nn.LSTM(E, encoder_size, layers, bidirectional=bidirectional,
                               dropout=dropout if layers > 1 else 0.0)
        multi_head = attention == "multi-head"
        C = 0 if score == "none" else H if multi_head else M  # columns of a context
        self.fed_size = {"output": H, "context": C, "start": H, "none": 0}[feed]
        self.decoder = nn.LSTMCell(E + self.fed_size, H)
        self.h_projection = nn.Linear(M, H, bias=False)
        self.c_projection = nn.Linear(M, H, bias=False)
        self.upper = nn.ModuleList(UpperLayer(H, M) for _ in range(layers - 1))
        if score == "location":
            self.att_location = nn.Linear(H, max_source, bias=False)
        if multi_head:
            self.multi_head = nn.MultiheadAttention(H, heads, bias=False, kdim=M, vdim=M, batch_first=True)
            self.multi_head.out_proj = nn.Identity()
            self.multi_head.out_proj.weight, self.multi_head.out_proj.bias = torch.eye(H).double(), None
        elif score in ("general", "concat"):
            self.att_projection = nn.Linear(M, H, bias=False)
        if score == "concat":
            self.att_query = nn.Linear(H, H, bias=False)
            self.att_vector = nn.Linear(H, 1, bias=False)
        if attention == "local-p":
            self.window_projection = nn.Linear(H, H, bias=False)
            self.window_vector = nn.Linear(H, 1, bias=False)
        if readout == "output":
            self.combined_output_projection = nn.Linear(C + H, H, bias=False)
        self.target_vocab_projection = nn.Linear(H, tgt_vocab_size, bias=False)
        if tie_embeddings:
            self.target_vocab_projection.weight = self.model_embeddings["target"].weight
        self.dropout = nn.Dropout(dropout)
        self.embed_dropout = nn.Dropout(embed_dropout)

    def forward(self, src: Tensor, src_lengths: Tensor, tgt: Tensor) -> Tensor:
        """src (S, B), tgt (T+1, B) from <s> to </s> -> summed cross-entropy of the target tokens."""
        enc, keys, mask, states = self.encode(src, src_lengths)
        embedded = self.embed_dropout(self.model_embeddings["target"](tgt[:-1]))
        fed = self.first_fed(states)
        outputs = []
        for t, y in enumerate(embedded.unbind(0)):
            output, _, fed, states = self.step(y, fed, states, enc, keys, mask, t)
            outputs.append(output)
        logits = self.target_vocab_projection(torch.stack(outputs))
        return F.cross_entropy(logits.flatten(0, 1), tgt[1:].flatten(), ignore_index=PAD,
                               reduction="sum", label_smoothing=self.label_smoothing)

    def encode(self, src: Tensor, src_lengths: Tensor):
        """-> states (B, S, M), attention keys (B, S, H), padding mask (B, S), first decoder states."""
        if self.reverse_source:
            src = torch.stack([torch.cat([ids[:n].flip(0), ids[n:]])
                               for ids, n in zip(src.T, src_lengths, strict=True)], dim=1)
        embedded = self.embed_dropout(self.model_embeddings["source"](src))
        packed = pack_padded_sequence(embedded, src_lengths, enforce_sorted=False)
        hiddens, (h, c) = self.encoder(packed)
        enc = pad_packed_sequence(hiddens, total_length=src.shape[0])[0].transpose(0, 1)
        keys = self.att_projection(enc) if hasattr(self, "att_projection") else enc
        mask = (src == PAD).T
        h_last, c_last = (  # (layers, B, M): the directions' last states side by side
            last.unflatten(0, (self.layers, -1)).transpose(1, 2).flatten(2) for last in (h, c))
        states = [(maps.h_projection(h_last[layer]), maps.c_projection(c_last[layer]))
                  for layer, maps in enumerate([self, *self.upper])]
        return enc, keys, mask, states

    def first_fed(self, states: list) -> Tensor:
        """What the first step is fed beside its word, (B, F)."""
        h0 = states[0][0]
        return h0 if self.feed == "start" else h0.new_zeros(len(h0), self.fed_size)

    def step(self, y: Tensor, fed: Tensor, states: list, enc: Tensor, keys: Tensor, mask: Tensor | None, t: int = 0):
        """Decoder step t: y (B, E) -> output (B, H), attention (B, S), what to feed next, states."""
        if self.asks_before:
            context, attention = self.attend(states[-1][0], enc, keys, mask, t)
            fed = context if self.feed == "context" else fed
        x = torch.cat([y, fed], dim=1)
        new_states = []
        for layer, cell in enumerate([self.decoder, *(upper.cell for upper in self.upper)]):
            h, c = cell(x if layer == 0 else self.dropout(new_states[-1][0]), states[layer])
            new_states.append((h, c))
        if not self.asks_before:
            context, attention = self.attend(h, enc, keys, mask, t)
        output = self.dropout(h)
        if self.readout == "output":
            output = self.dropout(torch.tanh(self.combined_output_projection(torch.cat([context, h], dim=1))))
        fed = {"output": output, "context": context}.get(self.feed, fed)
        return output, attention, fed, new_states

    def attend(self, h: Tensor, enc: Tensor, keys: Tensor, mask: Tensor | None, t: int):
        """h (B, H) -> context (B, C), attention (B, S); local attention by masks over the whole source."""
        if self.score == "none":
            return h.new_zeros(len(h), 0), None
        if self.attention == "multi-head":  # the attention is the mean over the heads
            context, attention = self.multi_head(h.unsqueeze(1), enc, enc, key_padding_mask=mask)
            return context.squeeze(1), attention.squeeze(1)
        e = self.attention_scores(h, keys)
        mask = torch.zeros_like(e, dtype=torch.bool) if mask is None else mask
        nearness = torch.ones_like(e)
        if self.attention != "global":
            places = torch.arange(e.shape[1], device=e.device)
            p = torch.full_like(e[:, :1], t)
            if self.attention == "local-p":
                lengths = (~mask).sum(dim=1, keepdim=True)
                p = lengths * torch.sigmoid(self.window_vector(torch.tanh(self.window_projection(h))))
                nearness = torch.exp(-((places - p) ** 2) / (2 * (self.window / 2) ** 2))
            mask = mask | ((places - p.detach().round()).abs() > self.window)
        attention = torch.softmax(e.masked_fill(mask, -torch.inf), dim=1)
        attention = attention.masked_fill(mask, 0.0) * nearness  # a row that is all masked is NaN, and should be 0
        return torch.bmm(attention.unsqueeze(1), enc).squeeze(1), attention

    def attention_scores(self, h: Tensor, keys: Tensor) -> Tensor:
        """h (B, H), keys (B, S, H) -> (B, S)."""
        if self.score == "location":
            return self.att_location(h)[:, : keys.shape[1]]
        if self.score == "concat":
            return self.att_vector(torch.tanh(keys + self.att_query(h).unsqueeze(1))).squeeze(2)
        return torch.bmm(keys, h.unsqueeze(2)).squeeze(2)
