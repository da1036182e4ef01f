"""The textbook: the whole model, forward and backward, for one sentence pair, in plain NumPy.

Read it from top to bottom; no other file is needed.  The rest of the library computes the same, but
fast, for many sentences at once; here loops go over words.  It is the default model of NMT: a
bidirectional LSTM encoder, and an LSTM decoder with attention and input feeding (Luong, Pham &
Manning 2015, with the score "general"), without dropout and label smoothing.

S source words, T target words (with </s>), E columns of an embedding, H hidden units, V words of a
vocabulary.  What belongs to one word is kept in a dict, under the word's position: s = 0 ... S - 1
or t = 0 ... T - 1.  So h_dec[-1] is the state before the first word.  At the ends of lines stand
shapes, and the equations of the fast code: decoder (5) is (5) in the docstring of decoder.py.

dX is the gradient of the loss with respect to X: one number for each of X, so it has X's shape.

    y = f(x)        gives  dx = dy * f'(x), number by number
    y = x @ W       gives  dx = W @ dy  and  dW = outer(x, dy)
    y = softmax(x)  gives  dx = y * (dy - y @ dy), since each y depends on every x
    What is used several times receives a gradient from each use.  They are added: every += below.

In a backward pass the lines of the forward pass stand as comments, from the last to the first, each
above the lines that go back through it; after a += stands what was used more than once, and where.
"""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace as Cache  # a record of named values

import numpy as np

Array = np.ndarray
Params = Mapping[str, Array]  # the weights, or their gradients, under the names of NMT.params
LSTM = tuple[Array, Array, Array]  # Wx (E, 4H), Wh (H, 4H) or (2H, 4H), b (4H,), or their gradients
Pair = tuple[Sequence[int], Sequence[int]]  # S source ids; T + 1 target ids, from <s> to </s>
PAD, BOS, EOS = 0, 1, 2  # the ids of padding, <s> and </s>


def new_params(V_src: int, V_tgt: int, E: int, H: int, rng: np.random.Generator) -> Params:
    """All weights, from U(-0.3, 0.3)."""
    shapes = {"embed.src": (V_src, E), "embed.tgt": (V_tgt, E), "vocab.W": (H, V_tgt),
              "encoder.Wx": (2, E, 4 * H), "encoder.Wh": (2, H, 4 * H), "encoder.b": (2, 4 * H),
              "decoder.Wx": (E, 4 * H), "decoder.Wh": (2 * H, 4 * H), "decoder.b": (4 * H,),
              "init.Wh": (2 * H, H), "init.Wc": (2 * H, H), "attention.W": (2 * H, H),
              "combine.W": (3 * H, H)}
    return {name: rng.uniform(-0.3, 0.3, shape) for name, shape in shapes.items()}


def lstms(params: Params) -> tuple[LSTM, LSTM, LSTM]:
    """The two LSTMs of the encoder, and the decoder's; no copies: += changes params itself."""
    fwd, bwd = zip(params["encoder.Wx"], params["encoder.Wh"], params["encoder.b"], strict=True)
    return fwd, bwd, (params["decoder.Wx"], params["decoder.Wh"], params["decoder.b"])


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), by tanh, which cannot overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def log_softmax(x: Array) -> Array:
    """log of exp(x) / sum(exp(x)), from x minus its maximum, so that exp cannot overflow."""
    x = x - x.real.max()  # .real: the gradient check feeds complex numbers
    return x - np.log(np.exp(x).sum())


def lstm_cell(x: Array, h_prev: Array, c_prev: Array, W: LSTM) -> tuple[Array, Array, Cache]:
    """One step: h, c, and what its backward pass needs."""
    Wx, Wh, b = W
    z = x @ Wx + h_prev @ Wh + b                                  # (4H,)      lstm (2)
    i, f, g, o = np.split(z, 4)                                   # (H,) each  lstm_gates (1)
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)   # (H,) each  lstm_gates (2)
    c = f * c_prev + i * g                                        # (H,)       lstm_gates (3)
    tanh_c = np.tanh(c)
    h = o * tanh_c                                                # (H,)       lstm_gates (4)
    return h, c, Cache(x=x, h_prev=h_prev, c_prev=c_prev, gates=(i, f, g, o), tanh_c=tanh_c)


def lstm_cell_backward(dh: Array, dc: Array, cell: Cache, W: LSTM, dW: LSTM) -> tuple[Array, ...]:
    """dx, dh_prev, dc_prev.  dc, which comes from the next step, and dW are added to, in place."""
    (Wx, Wh, _), (dWx, dWh, db), (i, f, g, o) = W, dW, cell.gates
    # h = o * tanh_c
    do, dtanh_c = dh * cell.tanh_c, dh * o
    # tanh_c = np.tanh(c)
    dc += dtanh_c * (1 - cell.tanh_c**2)                          # c, used by h and the next step
    # c = f * c_prev + i * g
    df, dc_prev, di, dg = dc * cell.c_prev, dc * f, dc * g, dc * i
    # i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    di, df, dg, do = di * i * (1 - i), df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)
    # i, f, g, o = np.split(z, 4)
    dz = np.concatenate([di, df, dg, do])
    # z = x @ Wx + h_prev @ Wh + b
    dWx += np.outer(cell.x, dz)                                   # Wx, used at each step
    dWh += np.outer(cell.h_prev, dz)                              # Wh, used at each step
    db += dz                                                      # b, used at each step
    return Wx @ dz, Wh @ dz, dc_prev


def forward(params: Params, src: Sequence[int], tgt: Sequence[int]) -> tuple[float, Cache]:
    """The loss in nats, and what backward needs; src, tgt: a Pair."""
    S, T, H = len(src), len(tgt) - 1, len(params["vocab.W"])
    W_fwd, W_bwd, W_dec = lstms(params)
    # The encoder reads the source from left to right, and once more from right to left.
    x = {s: params["embed.src"][src[s]] for s in range(S)}        # (E,)       nmt (1)
    h_fwd, c_fwd, cell_fwd = {-1: np.zeros(H)}, {-1: np.zeros(H)}, {}
    for s in range(S):
        h_fwd[s], c_fwd[s], cell_fwd[s] = lstm_cell(x[s], h_fwd[s - 1], c_fwd[s - 1], W_fwd)
    h_bwd, c_bwd, cell_bwd = {S: np.zeros(H)}, {S: np.zeros(H)}, {}
    for s in reversed(range(S)):
        h_bwd[s], c_bwd[s], cell_bwd[s] = lstm_cell(x[s], h_bwd[s + 1], c_bwd[s + 1], W_bwd)
    h_enc, keys = {}, {}
    for s in range(S):
        h_enc[s] = np.concatenate([h_fwd[s], h_bwd[s]])           # (2H,)      encoder (2)
        keys[s] = h_enc[s] @ params["attention.W"]                # (H,)       attention (1)
    # The decoder starts from the last states; h_dec[t] is the query, h_enc[s] the value of keys[s].
    h_last = np.concatenate([h_fwd[S - 1], h_bwd[0]])             # (2H,)
    c_last = np.concatenate([c_fwd[S - 1], c_bwd[0]])             # (2H,)
    h_dec = {-1: h_last @ params["init.Wh"]}                      # (H,)       encoder (3)
    c_dec = {-1: c_last @ params["init.Wc"]}                      # (H,)       encoder (3)
    o, a, weights, cell_dec, log_p, loss = {-1: np.zeros(H)}, {}, {}, {}, {}, 0.0
    for t in range(T):
        y = params["embed.tgt"][tgt[t]]                           # (E,)       nmt (3)
        h_and_o = np.concatenate([h_dec[t - 1], o[t - 1]])        # (2H,)      decoder (2)
        h_dec[t], c_dec[t], cell_dec[t] = lstm_cell(y, h_and_o, c_dec[t - 1], W_dec)  # decoder (3)
        score = np.array([h_dec[t] @ keys[s] for s in range(S)])  # (S,)       attention (1)
        weights[t] = np.exp(log_softmax(score))                   # (S,)       attention (2)
        a[t] = sum(weights[t][s] * h_enc[s] for s in range(S))    # (2H,)      attention (3)
        a_and_h = np.concatenate([a[t], h_dec[t]])                # (3H,)
        o[t] = np.tanh(a_and_h @ params["combine.W"])             # (H,)       decoder (5)
        log_p[t] = log_softmax(o[t] @ params["vocab.W"])          # (V,)       cross_entropy (1)
        loss -= log_p[t][tgt[t + 1]]                              # ()         cross_entropy (2)
    return loss, Cache(src=src, tgt=tgt, cell_fwd=cell_fwd, cell_bwd=cell_bwd, cell_dec=cell_dec,
                       h_enc=h_enc, keys=keys, h_last=h_last, c_last=c_last, h_dec=h_dec,
                       weights=weights, a=a, o=o, log_p=log_p)


def backward(params: Params, cache: Cache) -> dict[str, Array]:
    """Gradients of the loss, under the names of the weights.  Those of zero states are not used."""
    src, tgt, h_enc, keys, h_dec = cache.src, cache.tgt, cache.h_enc, cache.keys, cache.h_dec
    S, T, H = len(src), len(tgt) - 1, len(params["vocab.W"])
    grads = {name: np.zeros(params[name].shape) for name in params}
    (W_fwd, W_bwd, W_dec), (dW_fwd, dW_bwd, dW_dec) = lstms(params), lstms(grads)
    dh_dec, dc_dec, do = ({t: np.zeros(H) for t in range(-1, T)} for _ in range(3))
    dh_enc, dkeys = ({s: np.zeros(size) for s in range(S)} for size in (2 * H, H))
    for t in reversed(range(T)):
        a, o, weights, cell = cache.a[t], cache.o[t], cache.weights[t], cache.cell_dec[t]
        # loss -= log_p[t][tgt[t + 1]]
        # log_p[t] = log_softmax(o[t] @ params["vocab.W"])
        dlogits = np.exp(cache.log_p[t])                          # the probabilities,
        dlogits[tgt[t + 1]] -= 1                                  # minus 1 at the right word
        grads["vocab.W"] += np.outer(o, dlogits)                  # vocab.W, used at each step
        do[t] += params["vocab.W"] @ dlogits                      # o[t], used by vocab.W
        # o[t] = np.tanh(a_and_h @ params["combine.W"])
        dp = do[t] * (1 - o**2)                                   # p = a_and_h @ combine.W
        grads["combine.W"] += np.outer(np.concatenate([a, h_dec[t]]), dp)  # used at each step
        # a_and_h = np.concatenate([a[t], h_dec[t]])
        da, dh = np.split(params["combine.W"] @ dp, [2 * H])
        dh_dec[t] += dh                                           # h_dec[t], used by combine.W
        # a[t] = sum(weights[t][s] * h_enc[s] for s in range(S))
        dweights = np.array([da @ h_enc[s] for s in range(S)])
        for s in range(S):
            dh_enc[s] += weights[s] * da                          # h_enc[s], used as a value
        # weights[t] = np.exp(log_softmax(score))
        dscore = weights * (dweights - weights @ dweights)        # softmax, the third rule
        # score = np.array([h_dec[t] @ keys[s] for s in range(S)])
        for s in range(S):
            dh_dec[t] += dscore[s] * keys[s]                      # h_dec[t], used as the query
            dkeys[s] += dscore[s] * h_dec[t]                      # keys[s], used at each step
        # h_dec[t], c_dec[t], cell_dec[t] = lstm_cell(y, h_and_o, c_dec[t - 1], W_dec)
        dy, dh_and_o, dc = lstm_cell_backward(dh_dec[t], dc_dec[t], cell, W_dec, dW_dec)
        dc_dec[t - 1] += dc                                       # c_dec[t - 1], used by step t
        # h_and_o = np.concatenate([h_dec[t - 1], o[t - 1]])
        dh_dec[t - 1] += dh_and_o[:H]                             # h_dec[t - 1], used by step t
        do[t - 1] += dh_and_o[H:]                                 # o[t - 1], fed to step t
        # y = params["embed.tgt"][tgt[t]]
        grads["embed.tgt"][tgt[t]] += dy                          # the row, used at each such word
    dh_fwd, dc_fwd, dh_bwd, dc_bwd = ({s: np.zeros(H) for s in range(-1, S + 1)} for _ in range(4))
    # c_dec = {-1: c_last @ params["init.Wc"]}
    grads["init.Wc"] = np.outer(cache.c_last, dc_dec[-1])         # used once
    dc_last = params["init.Wc"] @ dc_dec[-1]
    # h_dec = {-1: h_last @ params["init.Wh"]}
    grads["init.Wh"] = np.outer(cache.h_last, dh_dec[-1])         # used once
    dh_last = params["init.Wh"] @ dh_dec[-1]
    # c_last = np.concatenate([c_fwd[S - 1], c_bwd[0]])
    dc_fwd[S - 1] += dc_last[:H]                                  # c_fwd[S - 1], used in c_last
    dc_bwd[0] += dc_last[H:]                                      # c_bwd[0], used in c_last
    # h_last = np.concatenate([h_fwd[S - 1], h_bwd[0]])
    dh_fwd[S - 1] += dh_last[:H]                                  # h_fwd[S - 1], used in h_last
    dh_bwd[0] += dh_last[H:]                                      # h_bwd[0], used in h_last
    for s in range(S):
        # keys[s] = h_enc[s] @ params["attention.W"]
        grads["attention.W"] += np.outer(h_enc[s], dkeys[s])      # attention.W, used for each word
        dh_enc[s] += params["attention.W"] @ dkeys[s]             # h_enc[s], used as a key
        # h_enc[s] = np.concatenate([h_fwd[s], h_bwd[s]])
        dh_fwd[s] += dh_enc[s][:H]                                # h_fwd[s], used in h_enc[s]
        dh_bwd[s] += dh_enc[s][H:]                                # h_bwd[s], used in h_enc[s]
    for s in range(S):
        # h_bwd[s], c_bwd[s], cell_bwd[s] = lstm_cell(x[s], h_bwd[s + 1], c_bwd[s + 1], W_bwd)
        dx, dh, dc = lstm_cell_backward(dh_bwd[s], dc_bwd[s], cache.cell_bwd[s], W_bwd, dW_bwd)
        dh_bwd[s + 1] += dh                                       # h_bwd[s + 1], used by step s
        dc_bwd[s + 1] += dc                                       # c_bwd[s + 1], used by step s
        grads["embed.src"][src[s]] += dx                          # the row, read from right to left
    for s in reversed(range(S)):
        # h_fwd[s], c_fwd[s], cell_fwd[s] = lstm_cell(x[s], h_fwd[s - 1], c_fwd[s - 1], W_fwd)
        dx, dh, dc = lstm_cell_backward(dh_fwd[s], dc_fwd[s], cache.cell_fwd[s], W_fwd, dW_fwd)
        dh_fwd[s - 1] += dh                                       # h_fwd[s - 1], used by step s
        dc_fwd[s - 1] += dc                                       # c_fwd[s - 1], used by step s
        # x = {s: params["embed.src"][src[s]] for s in range(S)}
        grads["embed.src"][src[s]] += dx                          # the row, read from left to right
    return grads


def translate(params: Params, src: Sequence[int], most: int = 70) -> list[int]:
    """The ids of a translation: at each step the most probable word, until </s> (greedy search)."""
    tgt = [BOS]
    while tgt[-1] != EOS and len(tgt) <= most:
        _, cache = forward(params, src, [*tgt, EOS])  # </s> only fills the place of the next word
        log_p = cache.log_p[len(tgt) - 1]
        log_p[[PAD, BOS]] = -np.inf  # these are never words of a translation
        tgt.append(int(np.argmax(log_p)))
    return [word for word in tgt[1:] if word != EOS]


def train(params: Params, pairs: Sequence[Pair], rate: float = 0.7) -> float:
    """Go once through the pairs; after each, a step down the gradient, cut to norm 1 if longer."""
    total = 0.0
    for src, tgt in pairs:
        loss, cache = forward(params, src, tgt)
        grads = backward(params, cache)
        norm = np.sqrt(sum((gradient**2).sum() for gradient in grads.values()))
        for name, weight in params.items():
            weight -= rate * min(1, 1 / norm) * grads[name]  # in place: params itself changes
        total += loss
    return total


if __name__ == "__main__":
    from .textbook_demo import main

    raise SystemExit(main())
