"""One step of an LSTM, and the activations it is made of."""

from ..patch import Bug

BUGS = (
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
        file="ops/lstm_cell.py",
        right="    return LSTMCellGradients(dx=dz @ Wx.T, dh_prev=dz @ Wh.T, dc_prev=dc_prev,",
        wrong="    return LSTMCellGradients(dx=dz @ Wx.T, dh_prev=dz @ Wh.T, dc_prev=dc,",
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
