"""Operations, one per file: `X_forward` and right below it `X_backward`, in plain array code.

Every forward returns its result and a cache; every backward takes the gradient of the result and
that cache, changes neither, and returns a NamedTuple with `d` + the name of each argument.
"""
