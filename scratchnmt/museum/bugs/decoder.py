"""Attention and the decoder that uses it; the search, which is the same model one step at a time."""

from ..patch import Bug

ATTENTION = (
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
        file="ops/activations.py",
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
        right="        reads=recurrent_inputs(config, rows.columns, dh, dr, dtop, params))",
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

SEARCH = (
    Bug(
        name="first-to-finish",
        title="the search returns the first translations that end, not the best",
        origin="neulab/xnmt, pull request 572",
        file="search/beam.py",
        right="        hopeless = score[:, 0] / penalty[limits[sentences]] <= ranks[:, -1]",
        wrong="        hopeless = ranks[:, -1] > -np.inf",
        check="a_full_beam_is_exhaustive_search",
        caught="a beam that has room for all of them returns",
        story="With a beam of five it stopped when five hypotheses had ended: the five shortest rather than "
              "the five best.  The author of the fix found 206 of 4,558 translations to change and BLEU hardly "
              "at all, 17.45 to 17.50: no figure gives such a bug away.  A vocabulary of a few words can be "
              "searched exhaustively, and then there is no doubt.",
    ),
    Bug(
        name="beam-of-copies",
        title="the beam starts as many copies of `<s>` and stays a beam of copies",
        origin="mead-ml/mead-baseline, pull request 223: the same hypothesis as many times as the beam is wide",
        file="search/beam.py",
        right="    score = xp.zeros((len(sentences), 1))",
        wrong="    score = xp.zeros((len(sentences), beam_size))\n"
              "    state = state.select(sentences, xp.zeros(score.shape, int))",
        check="a_full_beam_is_exhaustive_search",
        caught="a beam that has room for all of them returns",
        story="There finished hypotheses multiplied, since nothing kept a finished beam from being chosen "
              "again; here the beam starts with as many copies of `<s>`, whose best words are all the same "
              "word.  What is returned is greedy search at many times its price, and looks like a beam that "
              "does not help.",
    ),
    Bug(
        name="others-decide-the-end",
        title="a sentence stops when another one of its batch is finished",
        origin="OpenNMT-py, issue 137: 9 BLEU between batches of 1 and of 30",
        file="search/beam.py",
        right="        keep = xp.flatnonzero(~(at_limit | hopeless))",
        wrong="        keep = xp.flatnonzero(~(at_limit | hopeless.any()))",
        check="a_search_does_not_depend_on_its_batch",
        caught="in a batch with others as",
        story="The searches of a batch must end one by one.  There, by the report, one that was finished went on "
              "with the others and overwrote what it had found; here it is the other way round, and all stop with "
              "the first.  Translate a single sentence, and everything is right.",
    ),
    Bug(
        name="h-before-a",
        title="training concatenates [a; h], the search [h; a]",
        origin="Stanford CS224N's assignment 4: its equations and its comments differ in the order, and "
               "published weights exist with both",
        file="models/stepper.py",
        right="    rows = decoder_rows(params, config, packing, y.reshape(B * K, E), first, dtype, kernels=kernels)",
        wrong='    W = params["combine.W"]\n'
              '    turned = {**params, "combine.W": array_module(W).roll(W, -config.hidden_size, axis=0)}\n'
              "    rows = decoder_rows(turned, config, packing, y.reshape(B * K, E), first, dtype, kernels=kernels)",
        check="a_score_is_that_of_forced_decoding",
        caught="forced decoding",
        story="Either order can be trained.  Only both at once cannot: loss and perplexity are those of one "
              "model, translations those of another.  The course's own check cannot tell them apart, since it "
              "fills all weights with the same number.  Training and search have one step in common here, so the patch "
              "turns the rows of the weight instead, which comes to the same.",
    ),
    Bug(
        name="feeding-forgotten",
        title="the search forgets what is fed back to the next step",
        origin="a published solution of CS224N's assignment 4, whose README names the slip",
        file="models/stepper.py",
        right="    last = FirstState(top=rows.top[step.after], h=[layer.h[step.after] for layer in rows.layers[:-1]],",
        wrong="    last = FirstState(top=None, h=[layer.h[step.after] for layer in rows.layers],",
        check="a_score_is_that_of_forced_decoding",
        caught="forced decoding",
        story="The line `o_prev = o_t` was missing in the loop that decodes, so that every step is fed the zeros "
              "of the first.  Translations still make sense (that README gives BLEU 31.9 where others have 35.8), "
              "and a few points can be blamed on anything.  But the score of a hypothesis is the loss of its "
              "words, or something is wrong.",
    ),
)
