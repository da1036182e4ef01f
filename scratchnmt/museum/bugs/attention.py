"""Attention, and the decoder that uses it."""

from ..patch import Bug

BUGS = (
    Bug(
        name="padding-attended-to",
        title="attention looks at padding",
        origin="pytorch/tutorials, issues 593 and 2840; MaximumEntropy/Seq2Seq-PyTorch, issue 6; in "
               "pcyin/pytorch_nmt the mask is an argument that training never passes",
        file="ops/attention.py",
        right="    weights, _ = softmax_forward(score, mask[:, None], out=weights)  # (2)",
        wrong="    weights, _ = softmax_forward(score, out=weights)  # (2)",
        check="a_sentence_alone_is_what_it_is_in_a_batch",
        caught="together in a padded batch",
        story="The softmax runs over all rows of the batch's longest sentence, so that part of the attention "
              "of a short one goes to nothing.  The model will learn to ignore it, one tracker answers; but "
              "how much is lost depends on the other sentences of the batch, and a sentence is translated in "
              "one way alone and in another in company.  Gradients are right, for the wrong function.",
    ),
    Bug(
        name="mask-not-used",
        title="the mask is applied and the result thrown away",
        origin="mead-ml/mead-baseline, pull request 223, and once more 679",
        file="ops/softmax.py",
        right="        x = np.where(mask, x, -np.inf)",
        wrong="        np.where(mask, x, -np.inf)",
        check="masked_places_get_no_weight",
        caught="given to places that the mask leaves out",
        story="A call that returns a new array, read as one that changes its argument: `masked_fill` for "
              "`masked_fill_`.  The line is there, a reviewer sees that padding is masked, and nothing is.  It "
              "was repaired in January 2019 and again in June 2020, then with a test that a batch gives what "
              "its sentences give.",
    ),
    Bug(
        name="one-of-two-paths",
        title="the encoder's states are key and value, and get the gradient of the value alone",
        origin="a classic of hand-written attention",
        file="ops/attention.py",
        right="    dvalues = dvalues + step.weights.transpose(0, 2, 1) @ dcontext[:, None]",
        wrong="    dvalues = step.weights.transpose(0, 2, 1) @ dcontext[:, None]",
        check="attention, general",
        caught="dh_enc",
        story="Attention reads a state of the encoder twice: it is what is looked for (the key) and what is found "
              "(the value); its gradient is the sum over both ways.  The second assignment replaces the first.  "
              "What is left is most of the gradient early in training, when the weights are all alike.  In the "
              "whole model a state has more uses: the encoder's next step reads it, too, and the decoder starts "
              "from the last ones.  Those are added elsewhere, and are right here.",
    ),
    Bug(
        name="plus-without-equals",
        title="a sum over time steps is computed and not kept",
        origin="a fork of karpathy's min-char-rnn, with `dbh + dhraw` for `dbh += dhraw`",
        file="models/attention/scores.py",
        right="        self.kernels.rows.add(drows.dv, grads.dv)",
        wrong="        drows.dv + grads.dv",
        check="nmt, score concat, feeding output",
        caught="attention.v",
        story="An expression is a statement in Python, and nobody complains.  The gradient stays zero and the "
              "weight stays where it was drawn; the rest of the network learns around it.",
    ),
    Bug(
        name="feeding-not-undone",
        title="input feeding runs forward only",
        origin="a classic of hand-written decoders: the attentional output has two readers",
        file="models/decoder.py",
        right="        reads=recurrent_inputs(config, rows.columns, dh, dtop, params))",
        wrong='        reads=[[(dh[0], params["decoder.Wh"][: do.shape[1]], slice(None))]])',
        check="nmt, score general, feeding output",
        caught="combine.W",
        story="The attentional output goes to the vocabulary and, with input feeding, into the next step's "
              "LSTM.  The second way is easily forgotten in the backward pass, since the loss does not mention "
              "it.  The gradient that remains is the larger part.",
    ),
    Bug(
        name="writes-into-its-argument",
        title="the backward pass works in an array that it was given",
        origin="MXNet, pull request 18203: dx overwrote dy before the other direction had read it",
        file="models/readout.py",
        right="        return AttentionalGradientRows(np.empty_like(do), self._reads(dtop, self.W), o=o)",
        wrong="        return AttentionalGradientRows(rows.slope, self._reads(dtop, self.W), o=o)",
        check="backward_twice_is_the_same",
        caught="the first one wrote into it",
        story="There, gradients of bidirectional LSTMs with more than two layers were wrong, since the reverse "
              "direction read what the forward one had left.  An array that is an input and a workspace is "
              "right once.  Whether it is right depends on who reads it afterwards, which no test of the "
              "function by itself can tell; running it twice can.",
    ),
    Bug(
        name="sees-the-answer",
        title="the decoder reads the word that it is to predict",
        origin="jadore801120/attention-is-all-you-need-pytorch, issue 19: 98 % accuracy",
        file="models/inputs.py",
        right="    words = tgt[:-1]  # of step t, which predicts tgt[t + 1]",
        wrong="    words = tgt[1:]",
        check="what_is_to_be_predicted_is_not_read",
        caught="embedding of its last word",
        story="There it was suspected of the mask over later positions; here the target is not shifted.  A "
              "model of almost no size got 98 % of the words of the validation set, and its translations were "
              "nonsense: then there is no answer to copy.  All gradients are right.",
    ),
)
