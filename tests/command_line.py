"""Options of a command line that are changed: the commands refuse an option that is given twice."""


def but(options, *changes):
    """The options, "--name value" or "--name=value", with those of `changes` in the place of the same ones."""
    names = {str(one).partition("=")[0] for one in changes if str(one).startswith("--")}
    kept, skip = [], False
    for one in options:
        if str(one).startswith("--"):
            skip = str(one).partition("=")[0] in names
        if not skip:
            kept.append(one)
    return [*kept, *changes]
