"""What a function computes, by the primitives of its jaxpr."""

from collections import Counter


def primitives(jaxpr):
    """How often each primitive occurs, with those inside of nested functions."""
    count = Counter()
    for equation in jaxpr.eqns:
        nested = [getattr(value, "jaxpr", value) for value in equation.params.values()]
        nested = [value for value in nested if hasattr(value, "eqns")]
        count[equation.primitive.name] += not nested
        for value in nested:
            count += primitives(value)
    return count
