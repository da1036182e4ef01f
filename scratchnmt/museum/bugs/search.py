"""Search: the same model, one step at a time, and the best of what it says."""

from ..patch import Bug

BUGS = (
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
