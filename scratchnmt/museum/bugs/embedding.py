"""Embedding, dropout and the linear map."""

from ..patch import Bug

BUGS = (
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
