"""Operations: a step of an LSTM, sequences and the states that they end in; the loss; embedding, dropout, linear."""

from ..patch import Bug

CELLS = (
    Bug(
        name="dc-overwritten",
        title="the gradient of the cell is replaced where it should be added to",
        origin="MXNet, issue 4057",
        file="ops/lstm_gates.py",
        right="""\
    dc_all += dc
    dc = dc_all  # what came in, and what came through h""",
        wrong="""\
    dc = dc_all  # what came in, and what came through h""",
        check="lstm_gates",
        caught="dc_prev",
        story="The cell is used twice: by the output of its own step and by the next step.  An LSTM among the "
              "Python examples is reported to write `dc =` where `dc +=` seems right, and so to forget the next "
              "step.  Over a sequence of one step nothing is wrong.",
    ),
    Bug(
        name="tanh-of-tanh",
        title="the cell goes through tanh a second time in the backward pass",
        origin="nicklashansen/rnn_lstm_from_scratch, issue 1",
        file="ops/lstm_gates.py",
        right="    dc_all = tanh_c * tanh_c",
        wrong="    dc_all = np.tanh(tanh_c) ** 2",
        check="lstm_gates",
        caught="dz",
        story="What was stored is tanh(c) already; whoever takes it for c applies tanh once more before "
              "forming 1 - tanh².  For small cells tanh(tanh(c)), tanh(c) and c are nearly the same, and a "
              "network that was just initialised has small cells: a check with loose tolerances at such a "
              "point passes.",
    ),
    Bug(
        name="gates-swapped",
        title="two gates change places between forward and backward",
        origin="a classic: PyTorch and cuDNN order the gates i, f, g, o, others i, f, o, g or f, i, o, g",
        file="ops/lstm_gates.py",
        right="    di, df, dg, do = (dz[..., k * H : (k + 1) * H] for k in range(4))",
        wrong="    di, df, do, dg = (dz[..., k * H : (k + 1) * H] for k in range(4))",
        check="lstm_gates",
        caught="dz",
        story="All four blocks have the same shape, so that nothing complains when two of them are exchanged, "
              "and a test of shapes passes.  Half of the columns are right all the same, which is why the "
              "report's labels are worth having: it names the gates.",
    ),
    Bug(
        name="forget-gate-of-the-new-cell",
        title="the forget gate's gradient is multiplied by the new cell, not by the old one",
        origin="a classic of first LSTMs",
        file="ops/lstm_gates.py",
        right="    return (h, c), LSTMGatesCache(gates, c_prev, tanh_c)",
        wrong="    return (h, c), LSTMGatesCache(gates, c, tanh_c)",
        check="lstm_gates",
        caught="dz",
        story="c = f c_prev + i g, so that f's gradient needs c_prev.  Code that keeps one variable c and "
              "overwrites it step by step has the new one at hand when the backward pass comes.  The two "
              "differ little from step to step: the gradient has the right sign and size, and is wrong.",
    ),
    Bug(
        name="dc-not-forgotten",
        title="the cell's gradient is handed back without the forget gate",
        origin="a classic of first LSTMs",
        file="ops/lstm.py",
        right="    return LSTMCellGradients(dx=dz @ cache.Wx.T, dh_prev=dz @ cache.Wh.T, dc_prev=dc_prev,",
        wrong="    return LSTMCellGradients(dx=dz @ cache.Wx.T, dh_prev=dz @ cache.Wh.T, dc_prev=dc,",
        check="lstm_cell",
        caught="dc_prev",
        story="The gradient that arrives for c is passed on for c_prev as it is.  All gradients of the weights "
              "at this step are right; only what an earlier step receives is not.  A check of the weights of "
              "one cell, which is what most tests look at, sees nothing.",
    ),
    Bug(
        name="slope-of-the-input",
        title="the sigmoid's derivative y (1 - y) is taken of its input",
        origin="a classic of tutorials, where one function with a flag gives both the value and the derivative",
        file="ops/activations.py",
        right="""\
    y = 0.5 * (1 + np.tanh(0.5 * x))  # (2)
    return y, ActivationCache(y)""",
        wrong="""\
    y = 0.5 * (1 + np.tanh(0.5 * x))  # (2)
    return y, ActivationCache(x)""",
        check="sigmoid",
        caught="dx",
        story="The short form y (1 - y) wants the output.  A `sigmoid(x, derivative=True)` does not say which "
              "of the two x is, and sooner or later somebody gives it the pre-activation.  Shapes agree, "
              "values are of the right order near x = 0.5, and the network learns badly.",
    ),
)

SEQUENCES = (
    Bug(
        name="zeros-by-a-local",
        title="the loop computes the gradient and stores it nowhere",
        origin="thinc 8.3.14, the generic Ops.backprop_lstm, which its GPU operations inherit",
        file="ops/lstm.py",
        right="        add_rows(dx, rows, dx_rows[d])",
        wrong="        dx_d = take(dx, rows) + dx_rows[d]",
        check="lstm, two directions",
        caught="dx",
        story="There the loop over time bound what it had found to a local name, `dGt3`, and the buffer `dG`, "
              "from which all gradients were then made, kept its zeros.  Here it is the loop that puts dx "
              "together.  Zeros have the right shape, and the shape is what the test of the backward pass "
              "looked at.",
    ),
    Bug(
        name="starts-from-the-weights",
        title="the gradient is added up in a buffer that already holds the weights",
        origin="thinc 8.3.14, the Cython LSTM for the CPU",
        file="ops/lstm.py",
        right="                         dWh=product(take(cache.r, (ALL, packing.previous)).transpose(0, 2, 1), dz),",
        wrong="                         dWh=Wh + product(take(cache.r, (ALL, packing.previous)).transpose(0, 2, 1), "
              "dz),",
        check="lstm",
        caught="dWh",
        story="The function that cuts the flat vector of parameters into matrices was called for the "
              "gradients, too, but was given the parameters.  So every gradient was the right one plus the "
              "weight itself, which acts like a strong weight decay: the loss still falls, and a test that a "
              "model learns is content.",
    ),
    Bug(
        name="first-step-dropped",
        title="the loop back through time ends one step early",
        origin="thinc 8.3.14, the Cython LSTM for the CPU",
        file="ops/lstm.py",
        right="        add_rows(dx, rows, dx_rows[d])",
        wrong="        add_rows(dx, rows[B:], dx_rows[d, B:])",
        check="lstm",
        caught="dx",
        story="A loop that runs down to 1 where it should run down to 0.  The first word of every sentence "
              "receives no gradient, all others do; in a mean over a long sequence the loss is small, and in a "
              "sum of all gradients it does not show at all.",
    ),
    Bug(
        name="dh-not-carried",
        title="a step's gradient does not reach the step before it",
        origin="Element-Research/rnn, issue 31, reports what it looks like: right for one step, wrong for many",
        file="ops/lstm.py",
        right="        kernels.product.transposed_product(dz[:, now], Wh, out=dr[:, before], add=True)",
        wrong="        pass",
        check="lstm",
        caught="dx",
        story="Each step is given the gradient of its own output and nothing of the steps after it.  In a "
              "sequence of one step there is nothing to carry, so that a check of one step passes.  The "
              "network still learns what can be learnt from one step to the next.",
    ),
    Bug(
        name="last-cell-ignored",
        title="the gradient that arrives at the last cell state is dropped",
        origin="deeplearning4j, issue 8838",
        file="ops/lstm.py",
        right="    put(dc, ..., take(dc_last, (ALL, order)))  # of the sentences not yet begun (from the end) it is "
              "still dc_last",
        wrong="    put(dc, ..., 0)",
        check="lstm, two directions, initial states",
        caught="dc0",
        story="A layer returns its outputs and its last cell; its backward pass was given the gradients of "
              "both and used one.  Whoever reads only the outputs never notices: the gradient of c is zero "
              "then.  In a sequence-to-sequence model the encoder hands both states to the decoder, and the "
              "half of what it should learn is lost.",
    ),
    Bug(
        name="reverse-reads-padding",
        title="the backward direction begins with the padding",
        origin="a classic: an array that was padded is flipped as a whole; PyTorch has packed sequences "
               "against it",
        file="ops/packing.py",
        right="                   reversed_rows=(lengths[b] - 1 - t) * B + b,",
        wrong="                   reversed_rows=(T - 1 - t) * B + b,",
        check="the_sequence_is_a_loop_of_cells",
        caught="differs from that of a loop of cells",
        story="The reverse of a padded sentence is its padding followed by its words, so that the state reads "
              "nothing, several times over, before it sees a word, and what it knows depends on how long the "
              "longest sentence of the batch is.  The derivative of this wrong function is right: no gradient "
              "check can see it.",
    ),
    Bug(
        name="final-state-of-a-pad",
        title="the final state is that of the last row, where short sentences have only padding",
        origin="allennlp, issue 1713; pytorch/tutorials, issue 3643",
        file="ops/lstm.py",
        right="    put(h_last, (ALL, order), take(h, (ALL, packing.last)))  # (4)",
        wrong="    put(h_last, ..., y.reshape(T, B, D, H)[-1].transpose(1, 0, 2))  # (4)",
        check="the_sequence_is_a_loop_of_cells",
        caught="h_last of the sequence",
        story="`outputs[-1]` is the final state of the longest sentence of the batch.  For all others it is "
              "zero, as in allennlp's model, or what the cell made of padding, as in PyTorch's tutorial.  In a "
              "batch of equal lengths, or of one sentence, there is no difference.",
    ),
    Bug(
        name="unsorting-forgotten",
        title="states come back in the order of the sorted batch",
        origin="a classic of packed sequences; PyTorch's issues 2615, 3584 and 4927 are about sorting a batch "
               "and putting it back",
        file="ops/lstm.py",
        right="    put(h_last, (ALL, order), take(h, (ALL, packing.last)))  # (4)",
        wrong="    put(h_last, ..., take(h, (ALL, packing.last)))  # (4)",
        check="the_order_of_the_sentences_changes_nothing",
        caught="with its sentences in the order",
        story="Sentences are sorted by length so that the short ones can stop early, and have to be put back.  "
              "Outputs were, the final states were not: every sentence is then translated from the summary of "
              "another one.  Attention makes up for much of it, so that the loss falls and only looks a little "
              "high.",
    ),
    Bug(
        name="states-viewed",
        title="the two directions' final states are reshaped where they should be put side by side",
        origin="a classic: `h_n.view(batch, -1)` of PyTorch's (directions, batch, hidden)",
        file="models/encoder.py",
        right="    return kernels.rows.contiguous(last.transpose(1, 0, 2)).reshape(B, D * G)",
        wrong="    return last.reshape(B, D * G)",
        check="a_sentence_alone_is_what_it_is_in_a_batch",
        caught="together in a padded batch",
        story="An array of (directions, batch, hidden) viewed as (batch, directions x hidden) has the wanted "
              "shape, and in its first row the forward states of sentences 0 and 1.  For a batch of one "
              "sentence it is right, which is how it is usually tried out.",
    ),
    Bug(
        name="gradient-of-the-other-list",
        title="two gradients are each stored under the other's name",
        origin="hanbt/learn_dl, issue 53: three gates' biases all took the forget gate's gradient",
        file="models/encoder.py",
        right='            product(last.T, dstate, out=grads[f"{init}.W{name}"])',
        wrong="            product(last.T, dstate, out=grads[f\"{init}.W{'c' if name == 'h' else 'h'}\"])",
        check="nmt, one direction",
        caught="init.Wh",
        story="There are parallel lists of things of one shape, `delta_f_list`, `delta_i_list`, "
              "`delta_o_list`, and lines that were copied and not changed in every place.  There three gradients "
              "were one gate's; here two are exchanged.  All have the right shape and about the right size, and "
              "are another weight's.",
    ),
)

LOSS = (
    Bug(
        name="softmax-with-a-mean",
        title="softmax's backward pass subtracts the plain mean of dy",
        origin="a classic; checks that sum the output, as CUDA examples and course code do, let it pass",
        file="ops/activations.py",
        right="    dx = np.multiply(y, dy - (dy * y).sum(axis=-1, keepdims=True), out=out)",
        wrong="    dx = np.multiply(y, dy - dy.mean(axis=-1, keepdims=True), out=out)",
        check="softmax",
        caught="dx",
        story="The mean must be weighted by y.  A check whose loss is the sum of the outputs feeds dy = 1: "
              "then the weighted and the plain mean are both 1, the gradient is 0 either way, and the bug "
              "passes to the last digit.  That is why our checks draw dy at random and refuse ones here.",
    ),
    Bug(
        name="all-masked-is-nan",
        title="a row in which everything is masked divides zero by zero",
        origin="PyTorch, issues 24816 and 41508; allennlp, issue 890",
        file="ops/activations.py",
        right="    e /= np.where(total.real > 0, total, 1)  # (5)",
        wrong="    e /= total  # (5)",
        check="a_row_that_is_all_masked_gives_zeros",
        caught="entirely gives [nan, nan]",
        story="One empty sentence in a batch, and a row of the softmax has nothing to choose from.  The NaN "
              "spreads through the sum of the loss to every weight, and the message, if there is one, comes a "
              "thousand lines later.",
    ),
    Bug(
        name="cache-overwritten",
        title="backward makes its result in the array that forward kept",
        origin="a classic of the softmax of CS231n's exercises: `dx = probs` without a copy",
        file="ops/cross_entropy.py",
        right="    dlogits = p - s / V",
        wrong="    dlogits = p",
        check="cross_entropy",
        caught="backward writes into cache",
        story="dlogits is p with one number per row made smaller, so why not make it in place.  The gradient "
              "is right, and the cache holds something else from then on: the probabilities that are reported "
              "next are wrong, and so is a second backward pass.",
    ),
    Bug(
        name="smoothing-forward-only",
        title="label smoothing is in the loss and not in its gradient",
        origin="a classic of fused losses",
        file="ops/cross_entropy.py",
        right="    dlogits = p - s / V",
        wrong="    dlogits = p + 0",
        check="cross_entropy, label smoothing",
        caught="dlogits",
        story="The target's share 1 - s was put into the gradient and the rest, s / V for every word, was not.  "
              "With s = 0.1 and 50,000 words the missing term is 2e-6, which a check with an absolute tolerance "
              "of 1e-5 does not see.",
    ),
    Bug(
        name="padding-in-the-loss",
        title="padding is counted as a word to predict",
        origin="pytorch/tutorials, issue 3643",
        file="ops/cross_entropy.py",
        right="PAD = 0  # the target that is not one: padding",
        wrong="PAD = -100  # the target that is not one",
        check="padding_does_not_count_in_the_loss",
        caught="rows of padding below them",
        story="After `</s>` comes padding, and padding is very easy to predict.  The loss per token looks the "
              "better the more padding there is, and much of the gradient goes into learning nothing.  Or "
              "the loss does leave padding out and takes another number for it: PyTorch's default is -100.  Each "
              "gradient is right for the loss as it is.",
    ),
    Bug(
        name="mean-for-a-sum",
        title="the gradient is divided by the number of rows, the loss is not",
        origin="a classic: a sum over tokens on one side, a mean over the batch on the other",
        file="ops/linear_cross_entropy.py",
        right="    return LinearCrossEntropyGradients(dx=cache.dx * dloss, dW=cache.dW * dloss)",
        wrong="""\
    N = len(cache.dx)
    return LinearCrossEntropyGradients(dx=cache.dx * dloss / N, dW=cache.dW * dloss / N)""",
        check="linear_cross_entropy",
        caught="dW",
        story="The direction is right and the length is not.  Adam does not care about the length, so the "
              "model learns; clipping does, and so does whoever compares learning rates with a paper.  A check "
              "of directions by cosine passes.",
    ),
)

EMBEDDING = (
    Bug(
        name="repeated-row-counted-once",
        title="a word that occurs twice receives the gradient of one occurrence",
        origin="a classic of NumPy: `dW[ids] += dy`, where numpy.add.at is meant",
        file="ops/embedding.py",
        right="    dW[ids] += xp.add.reduceat(rows, starts, axis=0).astype(dy.dtype, copy=False)",
        wrong="    dW[cache.ids] += dy",
        check="embedding",
        caught="dW",
        story="Indexing with a list reads, adds and writes each row once, so that of several equal ids the "
              "last one wins.  A test whose ids are all different, such as 0, 1, 2, 3, sees nothing wrong; in "
              "real text it is the frequent words that lose.",
    ),
    Bug(
        name="tied-table-overwritten",
        title="of a table that is used twice, one use's gradient replaces the other's",
        origin="a classic of tied embeddings",
        file="models/nmt.py",
        right="            self.kernels.embedding.embedding_backward(gradient, lookup, dW=out[name])",
        wrong="            out[name][...] = self.kernels.embedding.embedding_backward(gradient, lookup).dW",
        check="nmt, tied embeddings, label smoothing",
        caught="embed.tgt",
        story="With tied embeddings the target's table is also the matrix in front of the softmax.  Without "
              "them `=` is as good as adding, since the table was zero; with them it wipes out what the softmax "
              "wanted, for the very words that occur in the batch.",
    ),
    Bug(
        name="dropout-not-scaled-back",
        title="dropout's backward pass knows which elements were kept, not that they were scaled",
        origin="a classic of inverted dropout",
        file="ops/dropout.py",
        right="    return DropoutGradients(dx=dy * cache.mask)",
        wrong="    return DropoutGradients(dx=dy * (cache.mask > 0))",
        check="dropout, a mask",
        caught="dx",
        story="Older dropout scales at test time, and its mask is of zeros and ones; inverted dropout scales "
              "by 1 / (1 - rate) in training, and that factor belongs to the derivative.  What comes of it is "
              "a gradient that is a little too small below every dropout: a rate that differs from layer to "
              "layer.",
    ),
    Bug(
        name="bias-averaged",
        title="the bias receives the mean over the batch where the weights receive the sum",
        origin="a classic",
        file="ops/linear.py",
        right="    return LinearGradients(dx=dy @ W.T, dW=rows_x.T @ rows_dy, db=rows_dy.sum(axis=0))",
        wrong="    return LinearGradients(dx=dy @ W.T, dW=rows_x.T @ rows_dy, db=rows_dy.mean(axis=0))",
        check="linear",
        caught="db",
        story="Both have the right shape, and with a batch of one they are the same.  Where the loss is a "
              "mean, too, one of the two has divided twice.  Checks that sample a few elements of all "
              "parameters together hardly ever draw one of the bias.",
    ),
)
