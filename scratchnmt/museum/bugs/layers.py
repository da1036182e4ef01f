"""Softmax and loss; embedding, dropout and the linear map."""

from ..patch import Bug

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
