"""Products and convolutions as tensor cores compute them, on any CPU: factors are rounded, sums are not.

A product whose precision is HIGHEST stays as it is, any other rounds its factors. So a program keeps as many digits as
it would on an accelerator, and a product for which nobody asked for full precision shows.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax import lax
from jax.extend.core.primitives import conv_general_dilated_p, dot_general_p
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters import mlir

BITS = {"tf32": 10, "bfloat16": 7}
"""Of the mantissa, the leading one not counted. Both formats have the exponents of float32, that is 8 bits."""


@contextmanager
def emulated(name: str) -> Iterator[None]:
    """Whatever is compiled inside of this, on a CPU, multiplies in the given format, one of `BITS`.

    Programs compiled before are forgotten, and so are those compiled inside once it ends.
    """
    # JAX has no public way to read a rule of lowering, only to write one.
    rules = mlir._platform_specific_lowerings["cpu"]
    primitives = (dot_general_p, conv_general_dilated_p)
    replaced = {primitive: rules.get(primitive) for primitive in primitives}
    jax.clear_caches()
    try:
        for primitive in primitives:
            original = (rules.get(primitive) or mlir._lowerings[primitive]).rule
            mlir.register_lowering(primitive, _rounding(original, BITS[name]), platform="cpu")
        yield
    finally:
        for primitive, entry in replaced.items():
            if entry is None:
                rules.pop(primitive, None)
            else:
                rules[primitive] = entry
        jax.clear_caches()


def _rounding(rule: Any, bits: int) -> Any:
    def lower(context: Any, *factors: Any, precision: Any, **options: Any) -> Any:
        if not _is_highest(precision):
            factors = tuple(_rounded(factor, bits) for factor in factors)
        return rule(context, *factors, precision=precision, **options)

    return lower


def _is_highest(precision: Any) -> bool:
    both = precision if isinstance(precision, tuple) else (precision, precision)
    return both == (lax.Precision.HIGHEST, lax.Precision.HIGHEST)


def _rounded(factor: Any, bits: int) -> Any:
    if not isinstance(ir.RankedTensorType(factor.type).element_type, ir.F32Type):
        return factor
    return stablehlo.reduce_precision(factor, exponent_bits=8, mantissa_bits=bits)
