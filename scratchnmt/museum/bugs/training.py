"""The data that training reads, the optimizer, validation, and the check itself."""

from ..patch import Bug

TRAINING = (
    Bug(
        name="smoothing-in-validation",
        title="perplexity is measured with label smoothing",
        origin="OpenNMT-py, repaired by pull request 464; pcyin/pytorch_basic_nmt",
        file="models/nmt.py",
        right="        return float(self._forward(inputs, None, gradients=False)[0])",
        wrong="""\
        smoothing = self.config.label_smoothing
        return float(self._forward(inputs, None, gradients=False, label_smoothing=smoothing)[0])""",
        check="the_validation_loss_is_without_dropout_and_smoothing",
        caught="in validation",
        story="The loss that is trained is the one at hand, and validation calls it.  Its exponential is not a "
              "perplexity and cannot be compared with anybody's: OpenNMT-py showed 128 where it was 51.5.",
    ),
    Bug(
        name="dropout-in-validation",
        title="the model is validated as it is trained, with dropout",
        origin="a classic: PyTorch's model.eval() forgotten",
        file="models/nmt.py",
        right="        return float(self._forward(inputs, None, gradients=False)[0])",
        wrong="""\
        rng = np.random.default_rng(0)
        return float(self._forward(inputs, rng, gradients=False)[0])""",
        check="the_validation_loss_is_without_dropout_and_smoothing",
        caught="in validation",
        story="A switch that is kept on the model has to be thrown before validation and back after it.  "
              "Numbers are then too bad rather than too good, which nobody suspects.  Where randomness is an "
              "argument, as here, it takes a line like this one to get it wrong.",
    ),
    Bug(
        name="perplexity-of-padding",
        title="the loss is divided by the size of the batch, padding included",
        origin="a classic",
        file="metrics.py",
        right="    tokens = int(batch.tgt_lengths.sum())",
        wrong="    tokens = batch.tgt[1:].size",
        check="perplexity_does_not_depend_on_the_batches",
        caught="in one padded batch",
        story="Every figure comes out better than it is, and the better the more the lengths in a batch "
              "differ.  Sorting the validation set by length then makes the model worse, on paper.",
    ),
    Bug(
        name="adam-from-step-0",
        title="Adam's bias correction counts the first step as step 0",
        origin="a classic: the paper counts from 1, loops count from 0",
        file="optim.py",
        right="        c = self.learning_rate * (1 - b1) / ((1 - b1**self.step_count) * s)  # (4)",
        wrong="        c = self.learning_rate * (1 - b1) / ((1 - b1 ** (self.step_count - 1)) * s)  # (4)",
        check="adam_takes_the_steps_of_the_paper",
        caught="counts steps from 0",
        story="1 - b^0 is zero.  Python says so; arrays give inf or NaN and go on, and code that guards the "
              "division with a small constant takes a first step that is many times too long and recovers from "
              "it in silence.",
    ),
    Bug(
        name="adam-uncorrected",
        title="Adam without its bias correction",
        origin="google-research/bert, issue 153: \"mostly an oversight\"; kept as BertAdam in others' libraries",
        file="optim.py",
        right="        s = sqrt((1 - b2) / (1 - b2**self.step_count))  # (4)",
        wrong="        s = sqrt(1 - b2)  # (4)",
        check="adam_takes_the_steps_of_the_paper",
        caught="from where the paper's algorithm puts it",
        story="There both corrections are missing, here that of the second moment.  The first steps have the "
              "wrong length, and warm-up hides it.  Later it was found to be one reason why fine-tuning on "
              "small sets is unstable (Zhang et al., Mosbach et al. 2021).",
    ),
    Bug(
        name="adam-erased",
        title="a resumed run starts its optimizer anew",
        origin="OpenNMT-py, issue 617",
        file="optim.py",
        right="    optimizer.step_count = int(step)",
        wrong="",
        check="a_reloaded_adam_goes_on_as_before",
        caught="a save, a load and two more steps",
        story="The saved state was loaded, and then the optimizer's constructor was called once more and wiped "
              "it out; here only the number of steps is lost.  The run goes on, and ends somewhere else than "
              "it would have.  Only a test that compares with an uninterrupted run can tell.",
    ),
    Bug(
        name="clips-each-tensor",
        title="every tensor is clipped by itself where the whole gradient is meant",
        origin="a classic: Keras' clipnorm clips each variable, its global_clipnorm all of them together",
        file="optim.py",
        right="        _in_parts(g, lambda part, room: np.multiply(g[part], factor, out=g[part]))",
        wrong="""\
        for tensor in grads.values():
            tensor *= clip_factor(sqrt(float((tensor * tensor).sum())), max_norm)""",
        check="clipping_keeps_the_direction",
        caught="clipping turns the gradient",
        story="Clipping should shorten a step and leave its direction alone.  Tensor by tensor, the large "
              "gradients are cut and the small ones are not: another direction, and other results than those "
              "of the paper whose threshold was copied.",
    ),
    Bug(
        name="no-end-of-sentence",
        title="targets are prepared without `</s>`",
        origin="abisee/pointer-generator, issue 34",
        file="data/batches.py",
        right="    tgt, tgt_lengths = _pad([[BOS, *ids, EOS] for ids in tgt_ids])",
        wrong="    tgt, tgt_lengths = _pad([[BOS, *ids] for ids in tgt_ids])",
        check="every_target_ends_where_the_sentence_does",
        caught="expected </s>",
        story="The loss fell to four millionths and the output was \"what what what what\".  No word to "
              "predict was ever the end, and so the model never says it and goes on to the limit.  Nothing is "
              "wrong in the model, its gradients or the search.",
    ),
    Bug(
        name="max-without-abs",
        title="the check itself takes the largest difference, not the largest absolute one",
        origin="lmnt-com/haste, commit 227f99b",
        file="gradcheck/report.py",
        right="    difference = np.abs(backward - reference)",
        wrong="    difference = backward - reference",
        check="a_wrong_gradient_is_seen_whatever_its_sign",
        caught="passes the check",
        story="The script that validated the gradients printed the maximum of g1 - g2.  A gradient that is too "
              "small everywhere gives a negative maximum, smaller than any tolerance.  A check is code, too, "
              "and proves nothing before it has failed.",
    ),
)
