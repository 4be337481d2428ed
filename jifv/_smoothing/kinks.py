"""Finding the kinks of a program: what is one, what only looks like one, what belongs together."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jifv._smoothing.program import (
    ELEMENTWISE,
    MAXIMA,
    ORDERS,
    RULES,
    WITHOUT_ROUNDED,
    Atom,
    Facts,
    Kink,
    Node,
    Note,
    Program,
    facts_of,
    inside,
    may_have_kinks,
)

_UNUSED, _STOPPED, _WANTED = 0, 1, 2
"""How far a value matters: not at all, without its derivative (behind `stop_gradient`), or with it."""


def find(program: Program, wanted: tuple[int, ...] | None = None) -> Program:
    """Mark kinks and equations that need not be computed; note what else is not smooth.

    Args:
        program: As the flattening makes it. It is changed.
        wanted: How far each result matters; None: all of them, with their derivatives.
    """
    if wanted is None:
        wanted = (_WANTED,) * len(program.outputs)
    _Search(program).run(wanted)
    return program


class _Search:
    def __init__(self, program: Program):
        self.program = program
        self.makers: dict[int, Node] = {}
        self.uses: dict[int, int] = {}

    def run(self, wanted: tuple[int, ...]) -> None:
        self.program.notes = []
        levels = self._levels(wanted)
        for node in self.program.nodes:
            node.kink = None
            if node.skipped:
                continue
            level = max((levels.get(output, _UNUSED) for output in node.outputs), default=_WANTED)
            self._classify(node, level)
            if level == _WANTED:
                self.program.notes += node.remarks
            self.makers.update(dict.fromkeys(node.outputs, node))

    def _levels(self, wanted: tuple[int, ...]) -> dict[int, int]:
        """Decide how far each value matters, working back from the results to the inputs."""
        levels: dict[int, int] = {}

        def need(atom: Atom, level: int) -> None:
            if isinstance(atom, int):
                levels[atom] = max(levels.get(atom, _UNUSED), level)
                self.uses[atom] = self.uses.get(atom, 0) + 1

        for atom, level in zip(self.program.outputs, wanted, strict=True):
            need(atom, level)
        for node in reversed(self.program.nodes):
            levels_out = tuple(levels.get(output, _UNUSED) for output in node.outputs)
            level = max(levels_out, default=_UNUSED)
            node.skipped = level == _UNUSED and not node.equation.effects
            if node.skipped:
                continue
            for atom in node.inputs:
                need(atom, min(level, _STOPPED) if node.name == "stop_gradient" else level)
            for body in node.bodies:
                # What a loop carries comes back to it, so that there all results matter.
                exact = len(body.outputs) == len(levels_out) and node.name not in ("scan", "while")
                find(body, tuple(max(each, _STOPPED) for each in levels_out) if exact else (level,) * len(body.outputs))
        return levels

    def _classify(self, node: Node, level: int) -> None:
        facts = [facts_of(atom, self.program.facts) for atom in node.inputs]
        if node.twin is not None and node.twin.whole:
            self._mark(node, level, node.twin.name, node.inputs[:1], facts[0].active)
        elif node.name in WITHOUT_ROUNDED:
            if level == _WANTED and any(fact.active for fact in facts):
                self._note(node, WITHOUT_ROUNDED[node.name])
        elif node.name in MAXIMA or node.name in ("reduce", "reduce_window"):
            self._maximum(node, facts, level)
        elif node.name in ("clamp", "abs") and not jnp.issubdtype(_dtype(node, 0), jnp.floating):
            pass
        elif node.name == "clamp":
            low, x, high = facts
            if low.active or high.active:
                self._note(node, "its bounds depend on the input")
            else:
                guard = low.number if x.nonnegative else None
                bounds = (_constant(node.inputs[index], facts[index]) for index in (0, 2))
                self._mark(node, level, "clamp", (node.inputs[1], *bounds), x.active, guard)
        elif node.name == "abs":
            if not facts[0].nonnegative:
                self._mark(node, level, "abs", node.inputs, facts[0].active)
        elif node.name == "select_n":
            self._select(node, facts, level)
        elif node.name == "convert_element_type":
            was, now = _dtype(node, 0), node.equation.params["new_dtype"]
            if facts[0].depends and level == _WANTED and (_is_float(was) != _is_float(now)):
                if _is_float(was) and facts[0].active:
                    self._note(node, "whole numbers have no derivative")
                elif jnp.issubdtype(was, jnp.bool_):
                    self._note(node, "a truth value is used as a number")
        elif node.name == "cond":
            if facts[0].depends and level == _WANTED:
                self._note(node, "which branch is taken depends on the input")
        elif (
            not node.bodies
            and level == _WANTED
            and node.name not in RULES
            and any(fact.active for fact in facts)
            and any(may_have_kinks(each, {}) for each in inside(node.equation))
        ):
            self._note(node, "what is inside it is not looked into")

    def _maximum(self, node: Node, facts: list[Facts], level: int) -> None:
        """Classify a maximum or minimum: of two values, over axes, or in windows."""
        params, kind = node.equation.params, node.name
        if not _is_float(_dtype(node, 0)):
            return
        if kind in ("max", "min"):
            self._of_two(node, facts, level)
        elif kind in ("reduce_max", "reduce_min"):
            if np.prod([_shape(node, 0)[axis] for axis in params["axes"]]) > 1:
                self._mark(node, level, kind, node.inputs, facts[0].active)
        elif kind in ("reduce_window_max", "reduce_window_min"):
            if np.prod(params["window_dimensions"]) > 1:
                self._mark(node, level, kind, node.inputs, facts[0].active)
        else:  # with an operation that is any function of the user's
            (inner,) = inside(node.equation)
            operation = [equation.primitive.name for equation in inner.jaxpr.eqns]
            if operation in (["max"], ["min"]) and len(node.inputs) == 2 and not facts[1].active:
                operands = (node.inputs[0], _constant(node.inputs[1], facts[1]))
                self._mark(node, level, f"{kind}_{operation[0]}", operands, facts[0].active)
            elif may_have_kinks(inner, {}) and level == _WANTED and facts[0].active:
                self._note(node, "its operation is not a maximum or minimum alone")

    def _of_two(self, node: Node, facts: list[Facts], level: int) -> None:
        left, right = node.inputs
        if facts[0].active and facts[1].active:
            entries: list[Atom] = []
            for atom in node.inputs:
                maker = self.makers.get(atom) if isinstance(atom, int) else None
                # max(max(a, b), c) is one kink of three values, unless somebody else needs max(a, b).
                inner = maker.kink if maker is not None and maker.name == node.name else None
                if inner is not None and inner.several and self.uses[atom] == 1:  # pyright: ignore[reportArgumentType]
                    entries += inner.operands
                    maker.kink, maker.skipped = None, True  # pyright: ignore[reportOptionalMemberAccess]
                else:
                    entries.append(atom)
            if len(set(entries)) > 1:
                self._mark(node, level, f"{node.name} of several", tuple(entries), True)
            return
        x, bound, fact, other = (left, right, *facts) if facts[0].active else (right, left, *reversed(facts))
        number = other.number
        if number is not None and np.isinf(number):
            return
        guard = number if node.name == "max" and fact.nonnegative else None
        if guard is None or guard > 0:
            self._mark(node, level, node.name, (x, _constant(bound, other)), fact.active, guard)

    def _select(self, node: Node, facts: list[Facts], level: int) -> None:
        """Classify a choice between cases: a kink if it compares a value with a bound where they meet at an angle."""
        which, *cases = node.inputs
        if not _is_float(_dtype(node, 1)) or len(cases) != 2 or not facts[0].depends or level != _WANTED:
            return
        maker, swapped = self.makers.get(which) if isinstance(which, int) else None, False
        while maker is not None and maker.name == "not":
            maker, swapped = self.makers.get(maker.inputs[0]), not swapped  # pyright: ignore[reportArgumentType]
        if maker is None or maker.name not in ORDERS:
            # NaN and infinity are looked for like this, and a sign that is known.
            if maker is None or maker.name not in ("eq", "ne", "is_finite"):
                self._note(node, "its condition is not a comparison")
            return
        left, right = (facts_of(atom, self.program.facts) for atom in maker.inputs)
        chosen = int((maker.name in ("gt", "ge")) != swapped)
        if left.active and right.active:
            if sorted(map(str, cases)) == sorted(map(str, maker.inputs)):
                larger = cases[chosen] == maker.inputs[0]
                self._mark(node, level, ("max" if larger else "min") + " of several", tuple(cases), True)
            else:
                self._note(node, "its condition compares two values that depend on the input")
        elif not (left.active or right.active):
            self._note(node, "its condition has no derivative")
        else:
            x, bound, fact, other = (*maker.inputs, left, right) if left.active else (*maker.inputs[::-1], right, left)
            if fact.nonnegative and other.number is not None and other.number < 0:
                return
            self._mark(node, level, "select", (x, _constant(bound, other), which, *cases), True)
            if node.kink is not None:
                node.kink.chosen = chosen if left.active else 1 - chosen
                node.kink.replay = self._path(x, cases)

    def _path(self, x: Atom, cases: list[Atom]) -> tuple[Node, ...]:
        """List, in order, the elementwise equations through which the cases depend on x."""
        reached, path = {x}, []
        for node in self.makers.values():
            if node.name in ELEMENTWISE and not reached.isdisjoint(node.read):
                reached.update(node.outputs)
                path.append(node)
        needed, kept = {case for case in cases if isinstance(case, int)}, []
        for node in reversed(path):
            if not needed.isdisjoint(node.outputs):
                needed.update(node.read)
                kept.append(node)
        return tuple(reversed(kept))

    def _mark(self, node: Node, level: int, kind: str, operands: Any, active: bool, guard: float | None = None) -> None:
        if level == _WANTED and active:
            shape = _shape(node, node.inputs.index(operands[0])) if operands[0] in node.inputs else _shape(node, 0)
            node.kink = Kink(kind, shape, node.source, tuple(operands), guard)
        elif any(facts_of(atom, self.program.facts).depends for atom in operands):
            self._note(node, "its derivative is stopped", kind)
        else:
            self._note(node, "it does not depend on the input", kind)

    def _note(self, node: Node, reason: str, kind: str | None = None) -> None:
        self.program.notes.append(Note(kind or node.name, _shape(node, 0), reason, node.source))


def _constant(atom: Atom, facts: Facts) -> Atom:
    """Return a bound, as a number if its value is known."""
    return atom if facts.number is None else facts.number


def _shape(node: Node, index: int) -> tuple[int, ...]:
    return tuple(node.equation.invars[index].aval.shape)  # pyright: ignore[reportAttributeAccessIssue]


def _dtype(node: Node, index: int) -> Any:
    return node.equation.invars[index].aval.dtype  # pyright: ignore[reportAttributeAccessIssue]


def _is_float(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.inexact)
