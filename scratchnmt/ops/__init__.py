"""Operations, one per file: `X_forward` and right below it `X_backward`, in plain array code.

Every forward returns its result and a cache; every backward takes the gradient of the result and
that cache, changes neither, and returns a NamedTuple with `d` + the name of each argument.

NumPy's functions are called, whatever the arrays: given one of CuPy's, they call CuPy's function of the same name (NEP
13, NEP 18).  Only where an array is made of nothing, as by `zeros`, `array_module` says whose.
"""
