"""A command that tests begin: its options, and its signals."""

import signal


def heed_signals():
    """For `preexec_fn`: Ctrl-C and a closed terminal end the command, though whoever runs the tests ignores them.

    nohup ignores SIGHUP, and a shell SIGINT for what it runs in the background.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def but(options, *changes):
    """The options, "--name value" or "--name=value", with `changes` in the place of the same ones.

    A command refuses an option that is given twice.
    """
    names = {str(one).partition("=")[0] for one in changes if str(one).startswith("--")}
    kept, skip = [], False
    for one in options:
        if str(one).startswith("--"):
            skip = str(one).partition("=")[0] in names
        if not skip:
            kept.append(one)
    return [*kept, *changes]
