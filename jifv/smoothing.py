"""Rounding off the kinks of any function: ReLU, max pooling, clipping and the like become smooth.

A visualization of a network with ReLU and max pooling comes to rest on kinks, where no gradient vanishes, and cannot be
inverted where features are weak. On the smoothed network its gradient vanishes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import jaxpr_as_fun
from jaxtyping import Array, Float

from jifv._core.check import check_nonnegative
from jifv._smoothing.flatten import program_of
from jifv._smoothing.interpreter import Measured
from jifv._smoothing.measuring import measure
from jifv._smoothing.program import Kink, Program
from jifv._smoothing.rounding import evaluate
from jifv._smoothing.twins import rounded_by as rounded_by
from jifv.parametrize import fourier

_SAMPLES = 4
_SMALL = 1e-4
"""Below which part of what is typical a difference is none."""


class Site(NamedTuple):
    """A kink that is rounded.

    Attributes:
        kind: The primitive, such as `"max"` (of a value and a bound, as in ReLU), `"max of several"`,
            `"reduce_window_max"` or `"select"`; or the name of a function with a rounded twin.
        shape: Of the operand.
        width: Over which it is rounded, in units of the operand.
        source: Line of code that it comes from.
    """

    kind: str
    shape: tuple[int, ...]
    width: float
    source: str


class LeftAlone(NamedTuple):
    """Something that is not smooth, or looks like it, and is not rounded.

    Attributes:
        kind: The primitive, or the name of a function with a hand-written derivative.
        shape: Of the operand.
        reason: Why.
        source: Line of code that it comes from.
    """

    kind: str
    shape: tuple[int, ...]
    reason: str
    source: str


@dataclass(frozen=True, eq=False, repr=False)
class Smoothed:
    """A function with rounded kinks, made by `smooth`: call it as the function. It is hashed by its identity.

    It is traced once for each shape and type of its argument, and compiled by itself where it is called outside `jit`.

    Attributes:
        function: What was smoothed.
        smoothing: The width of each kink over the root mean square of its operand.
        sites: What is rounded, in the order of computation.
        left_alone: What is not smooth and not rounded, or only looks like it.
        replaced: Functions with a hand-written derivative and kinks whose derivative is the automatic one now, because
            they have no rounded twin (see `rounded_by`). That may be slow.
    """

    function: Callable[[Float[Array, "..."]], Any]
    smoothing: float
    sites: tuple[Site, ...]
    left_alone: tuple[LeftAlone, ...]
    replaced: tuple[LeftAlone, ...]
    _kinds: tuple[str, ...]
    _widths: tuple[float | None, ...]
    _traced: dict[Any, Callable] = field(default_factory=dict, init=False)

    def __call__(self, x: Float[Array | np.ndarray, "..."]) -> Any:
        """Evaluate the smoothed function for one sample; batch it with `jax.vmap`.

        Raises:
            TypeError: `x` is not an array of floats.
            ValueError: An input of this shape or type leads through other kinks than those of the calibration.
        """
        x = jnp.asarray(_floats("x", x))
        # A trace has the precision of its products in it, and its type the axes that `shard_map` divides it over.
        key = jax.typeof(x), jax.config.jax_default_matmul_precision, jax.config.jax_enable_x64  # pyright: ignore
        if key not in self._traced:
            self._traced[key] = self._trace(x)
        return self._traced[key](x)

    def __repr__(self) -> str:
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        return f"Smoothed({name}, width={self.smoothing:g}, {len(self.sites)} kinks, {len(self.left_alone)} left alone)"

    def table(self) -> str:
        """Write a report: one line for each kink that is rounded, replaced or left alone."""
        lines = [repr(self)]
        lines += [f"  rounded    {_line(site)}  width {site.width:.4g}" for site in self.sites]
        lines += [f"  replaced   {_line(each)}: {each.reason}" for each in self.replaced]
        lines += [f"  left alone {_line(each)}: {each.reason}" for each in self.left_alone]
        return "\n".join(lines)

    def program(self, x: Float[Array, "..."]) -> tuple[Program, tuple[float | None, ...], Any]:
        """Return the program of the function for inputs such as `x`, the width of each kink, and the results' tree.

        Raises:
            ValueError: An input of this shape or type leads through other kinks than those of the calibration.
        """
        program, tree, _ = program_of(self.function, x)
        kinds = tuple(kink.kind for kink in program.kinks())
        if kinds != self._kinds:
            raise ValueError(
                f"x must lead through the same kinks as the calibration inputs, {len(self._kinds)}, "
                f"got {len(kinds)} for {x.dtype}{list(x.shape)}"
            )
        return program, self._widths, tree

    def _trace(self, x: Array) -> Callable:
        program, widths, tree = self.program(x)
        rounded = jax.make_jaxpr(lambda x: evaluate(program, widths, x))(x)
        flat = jax.jit(jaxpr_as_fun(rounded))
        return lambda x: jax.tree.unflatten(tree, flat(x))


def smooth(
    function: Callable[[Float[Array, "..."]], Any],
    inputs: Float[Array | np.ndarray, "samples ..."] | jax.ShapeDtypeStruct | tuple[int, ...],
    width: float | int = 0.1,
) -> Smoothed:
    """Round off the kinks of a function.

    The function is traced, and each primitive with a kink replaced by a rounded one. With w the kink's width

    - max(x, c) and clamp, c a bound: c up to c, c + (x − c)² / 2w up to c + w, then x − w/2;
    - min(x, c): x up to c, then flattening out, c + w/2 from c + w on; so max + min is x + c, as without rounding;
    - |x|: x² / 2w up to w on either side, then |x| − w/2;
    - cases chosen by comparing x with a bound, where they meet there at an angle (leaky ReLU, hard tanh): the chosen
      case, the jump of the slope taken out in the same way;
    - maxima and minima of several arrays, over axes and in windows: w·log(mean(exp(x / w))) over those entries that are
      not −∞, between mean and maximum. A chain, max(max(a, b), c), is one maximum of three.

    As w goes to 0 they converge to what they replace. They are found inside `jit`, `jax.checkpoint`, `scan`, `cond`,
    `while_loop` and in functions with a derivative of their own (`custom_jvp`, `custom_vjp`). Such a function is kept
    if it has no kinks, or if its derivative has no jumps; of others, the declared twin takes the place
    (`rounded_by`), or the rounded body with its automatic derivative.

    A maximum that is only subtracted for safety, behind `stop_gradient`, is left alone, and so is one with a bound that
    values never reach by construction, such as that of a variance with 0; the result's attributes say what else.

    Args:
        function: From one sample, an array of floats, to any pytree of arrays. What it closes over are constants.
        inputs: Samples to measure the widths on, along the first axis; or the shape (H, W, C) of one, alone or with its
            type, for four random images with the spectrum of natural ones and values in (0, 1).
        width: Width of each kink over the root mean square of its operand. That is taken of the function as it is over
            all entries and samples, infinite ones left out; in a loop over all its turns, and of a condition in all
            branches, taken or not. 0.1 changes little of a network's responses.

    Returns:
        The smoothed function, with a report.

    Raises:
        TypeError: `function` is not callable, `inputs` are not floats, or `width` is not a number.
        ValueError: `width` is not positive and finite, `inputs` are empty or not finite, their shape not that of an
            image where they are to be random; or activations are NaN.
    """
    if not callable(function):
        raise TypeError(f"function must be callable, got {function!r}")
    check_nonnegative("width", width)
    if width == 0:
        raise ValueError("width must be positive, got 0")
    samples = _samples(inputs)
    with jax.default_matmul_precision("highest"):  # the same widths on every device
        program, _, replaced = program_of(function, samples[0])
        found = _calibrate(program, samples)
    kinks = list(program.kinks())
    verdicts = [_verdict(kink, each, float(width)) for kink, each in zip(kinks, found, strict=True)]
    sites, left = [], [LeftAlone(*note) for note in dict.fromkeys(program.all_notes())]
    for kink, verdict in zip(kinks, verdicts, strict=True):
        if isinstance(verdict, str):
            left.append(LeftAlone(kink.kind, kink.shape, verdict, kink.source))
        else:
            sites.append(Site(kink.kind, kink.shape, verdict, kink.source))
    return Smoothed(
        function,
        float(width),
        tuple(sites),
        tuple(left),
        tuple(LeftAlone(*note) for note in replaced),
        tuple(kink.kind for kink in kinks),
        tuple(None if isinstance(verdict, str) else verdict for verdict in verdicts),
    )


def _calibrate(program: Program, samples: np.ndarray) -> list[Measured]:
    """Measure what reaches each kink, over all samples."""
    # It runs a few times: a good program is not worth the seconds that it takes LLVM.
    hasty = {"xla_backend_optimization_level": "0"} if jax.default_backend() == "cpu" else None
    # Compiled here, it runs also while another function is being traced.
    step = jax.jit(lambda x: measure(program, x)[1], compiler_options=hasty).lower(samples[0]).compile()
    found = [step(x) for x in samples]
    return [
        Measured(*(np.array(leaves, float) for leaves in zip(*each, strict=True))).over()
        for each in zip(*found, strict=True)
    ]


def _verdict(kink: Kink, found: Measured, width: float) -> float | str:
    """Choose the width of a kink, or say why it is left alone."""
    squares, count, jump, turn, slope = (float(each) for each in found)
    if np.isnan(squares):
        raise ValueError(f"inputs must lead to finite activations, got NaN at {kink.kind} in {kink.source}")
    if count == 0:
        return "no finite value reached it in the calibration"
    typical = (squares / count) ** 0.5
    if not np.isfinite(typical):
        raise ValueError(f"inputs must lead to finite squares, got larger values at {kink.kind} in {kink.source}")
    if typical == 0:
        return "its operand was 0 throughout the calibration"
    if kink.guard is not None and kink.guard <= 1e-2 * typical:
        return f"its operand is nonnegative by construction, and the bound small: {kink.guard:g}"
    if kink.kind == "select":
        if not (np.isfinite(jump) and np.isfinite(slope)):
            return "its cases have no finite value or slope at the bound"
        if jump > _SMALL * slope * typical:
            return f"its cases do not meet at the bound: they differ by {jump:.3g}"
        if turn <= _SMALL * slope:
            return "its cases meet without a kink"
    return width * typical


def _samples(inputs: Any) -> np.ndarray:
    """Check the samples to calibrate on, or draw them for a given shape."""
    if isinstance(inputs, jax.ShapeDtypeStruct) or (
        isinstance(inputs, Sequence) and all(isinstance(side, (int, np.integer)) for side in inputs)
    ):
        shape: Any = tuple(inputs.shape if isinstance(inputs, jax.ShapeDtypeStruct) else inputs)
        dtype = getattr(inputs, "dtype", jnp.float32)
        if len(shape) != 3 or not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(f"inputs must be samples unless they are images of floats (H, W, C), got {inputs!r}")
        phi = fourier(shape, decay=1.0, std=1.0)
        with jax.ensure_compile_time_eval():
            images = jax.vmap(lambda key: phi.apply(phi.init(key)))(jax.random.split(jax.random.key(0), _SAMPLES))
            return np.asarray(images.astype(dtype))
    samples = _floats("inputs", inputs)
    if isinstance(samples, Tracer):
        raise TypeError("inputs must have values, got an array that is being traced; smooth outside of jit")
    if samples.ndim == 0 or samples.size == 0:
        raise ValueError(f"inputs must be one sample or more along the first axis, got shape {samples.shape}")
    samples = np.asarray(samples, jax.dtypes.canonicalize_dtype(samples.dtype))
    if not np.isfinite(samples.astype(float)).all():
        raise ValueError("inputs must be finite, got NaN or infinite entries")
    return samples


def _floats(name: str, x: Any) -> Any:
    if not hasattr(x, "dtype") or not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{name} must be an array of floats, got {getattr(x, 'dtype', type(x).__name__)}")
    return x


def _line(each: Any) -> str:
    return f"{each.kind} {list(each.shape)} {each.source}"
