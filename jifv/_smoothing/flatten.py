"""From a jaxpr to a program: calls inlined, control flow looked into, hand-written derivatives judged."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

from jifv._smoothing import kinks
from jifv._smoothing.knowledge import Knowledge, joined
from jifv._smoothing.program import (
    CALLS,
    CONTROL,
    ELEMENTWISE,
    RULES,
    WITHOUT_ROUNDED,
    Atom,
    Facts,
    Kink,
    Node,
    Note,
    Program,
    closed,
    inside,
    known,
    may_have_kinks,
    source_of,
)
from jifv._smoothing.steps import derivative_jumps
from jifv._smoothing.twins import marked

_OF_STEPS = frozenset(WITHOUT_ROUNDED.values())


def program_of(function: Callable, x: jax.Array | np.ndarray) -> tuple[Program, Any, list[Note]]:
    """Trace a function of one array.

    Returns:
        Its program, the structure of its results, and the hand-written derivatives that gave way to automatic ones.

    Raises:
        TypeError: The function closes over values that are being traced.
    """
    traced, result = jax.make_jaxpr(function, return_shape=True)(x)
    for constant in traced.consts:
        if isinstance(constant, Tracer):
            raise TypeError("function must not close over values that are being traced; transform it outside of jit")
    program, replaced = flatten(traced)
    return program, jax.tree.structure(result), replaced


def flatten(traced: ClosedJaxpr) -> tuple[Program, list[Note]]:
    """Turn a traced function of arrays into a program whose kinks are marked.

    Returns:
        The program, and the hand-written derivatives that gave way to automatic ones.
    """
    shared = _Shared()
    program = shared.program(traced, [Facts(True, True)] * len(traced.jaxpr.invars))
    return kinks.find(program), list(dict.fromkeys(shared.replaced))


class _Shared(Knowledge):
    """State shared by all programs of one function."""

    def __init__(self) -> None:
        super().__init__()
        self.may_have_kinks: dict[int, bool] = {}
        self.replaced: list[Note] = []
        self.jumps: dict[Any, bool] = {}

    def program(self, jaxpr: ClosedJaxpr, facts: Sequence[Facts], *, twin: bool = False) -> Program:
        program = Program((), {}, [], (), self.facts)
        program.inputs = tuple(self.new(each) for each in facts)
        program.outputs = tuple(_Flattening(self, program, twin).inline(jaxpr, program.inputs))
        return program


class _Flattening:
    """Appends equations to one program."""

    def __init__(self, shared: _Shared, program: Program, twin: bool):
        self.shared = shared
        self.program = program
        self.in_twin = twin
        self.computed: dict[Any, tuple[int, ...]] = {}
        self.callers: tuple[JaxprEqn, ...] = ()

    def inline(self, jaxpr: ClosedJaxpr, inputs: Sequence[Atom]) -> list[Atom]:
        """Append the equations of a jaxpr, applied to these arguments."""
        env: dict[Any, Atom] = dict(zip(jaxpr.jaxpr.invars, inputs, strict=True))
        for variable, value in zip(jaxpr.jaxpr.constvars, jaxpr.consts, strict=True):
            env[variable] = index = self.shared.new(known(value))
            self.program.constants[index] = value
        read = lambda atom: atom if isinstance(atom, Literal) else env[atom]  # noqa: E731
        for equation in jaxpr.jaxpr.eqns:
            outputs = self.equation(equation, tuple(read(atom) for atom in equation.invars))
            env.update(zip(equation.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.jaxpr.outvars]

    def call(self, equation: JaxprEqn, body: ClosedJaxpr, inputs: tuple[Atom, ...]) -> list[Atom]:
        """Append the body of a call in place of the call."""
        self.callers = (equation, *self.callers)
        outputs = self.inline(body, inputs)
        self.callers = self.callers[1:]
        return outputs

    def equation(self, equation: JaxprEqn, inputs: tuple[Atom, ...]) -> Sequence[Atom]:
        name = equation.primitive.name
        if not any(may_have_kinks(each, self.shared.may_have_kinks) for each in inside(equation)):
            if name not in CALLS:
                return self.append(equation, inputs)
            (body,) = inside(equation)
            results = self.shared.of(self.shared.program(body, self.shared.of(inputs)).outputs)
            return self.append(equation, inputs, results=results)
        if name in CALLS:
            (body,) = inside(equation)
            twin = marked(equation)
            return self.call(equation, body, inputs) if twin is None else self.twin(equation, inputs, twin, body)
        if name in RULES:
            return self.rule(equation, inputs)
        return self.control(equation, inputs) if name in CONTROL else self.append(equation, inputs)

    def twin(self, equation: JaxprEqn, inputs: tuple[Atom, ...], twin: Any, body: ClosedJaxpr) -> Sequence[Atom]:
        """Append a call of a function that declares its own rounded twin."""
        if twin.whole:
            return self.append(equation, inputs, twin=twin)
        program = kinks.find(self.shared.program(body, self.shared.of(inputs), twin=True))
        if not any(program.kinks()):
            return self.call(equation, body, inputs)
        return self.append(equation, inputs, bodies=(program,), twin=twin)

    def rule(self, equation: JaxprEqn, inputs: tuple[Atom, ...]) -> Sequence[Atom]:
        """Append a function with a hand-written derivative, or its body in its place if that derivative jumps."""
        (body,) = inside(equation)
        if self.in_twin and not self.callers:
            return self.call(equation, body, inputs)  # the function that has the twin
        replaced = len(self.shared.replaced)
        program = kinks.find(self.shared.program(body, self.shared.of(inputs), twin=self.in_twin))
        del self.shared.replaced[replaced:]
        found = list(program.kinks())
        name = body.jaxpr.debug_info.func_src_info.split(" at ")[0] if body.jaxpr.debug_info else "a function"
        if not found or not self.jumps(equation, body, inputs):
            outputs = self.append(equation, inputs)
            notes = tuple(program.all_notes())
            inner = [each.kind for each in (*found, *notes) if isinstance(each, Kink) or each.reason in _OF_STEPS]
            if inner:
                said = f"its hand-written derivative goes on without a jump over {', '.join(dict.fromkeys(inner))}"
                notes = (Note(name, _shape(equation), said, source_of((equation, *self.callers))),)
            self.program.nodes[-1].remarks = notes
            return outputs
        # Of elementwise operations such as ReLU the automatic derivative is as good.
        if not self.in_twin and any(node.name not in ELEMENTWISE and not node.skipped for node in program.nodes):
            reason = f"it has kinks ({len(found)}), and its gradient is now the automatic one; see rounded_by"
            self.shared.replaced.append(Note(name, _shape(equation), reason, source_of((equation, *self.callers))))
        return self.call(equation, body, inputs)

    def jumps(self, equation: JaxprEqn, body: ClosedJaxpr, inputs: tuple[Atom, ...]) -> bool:
        """Tell whether a hand-written derivative jumps. Asked once per function, whatever the shapes."""
        active = tuple(fact.active for fact in self.shared.of(inputs))
        primitives = tuple(each.primitive.name for each in body.jaxpr.eqns)
        said = body.jaxpr.debug_info.func_src_info if body.jaxpr.debug_info else None
        key = equation.primitive.name, said, primitives, active
        if said is None or key not in self.shared.jumps:
            self.shared.jumps[key] = derivative_jumps(equation, active)
        return self.shared.jumps[key]

    def control(self, equation: JaxprEqn, inputs: tuple[Atom, ...]) -> Sequence[Atom]:
        """Append a loop, a branch or a rematerialization, with programs for what is inside."""
        name, params, facts = equation.primitive.name, equation.params, self.shared.of(inputs)
        if name == "scan":
            first = params["num_consts"]
            bodies, results = self.loop(params["jaxpr"], facts, first, params["num_carry"])
        elif name == "while":
            first = params["cond_nconsts"]
            bodies, results = self.loop(params["body_jaxpr"], facts[first:], params["body_nconsts"], None)
        elif name == "cond":
            bodies = tuple(self.shared.program(body, facts[1:], twin=self.in_twin) for body in params["branches"])
            results = [
                joined(column) for column in zip(*(self.shared.of(body.outputs) for body in bodies), strict=True)
            ]
            results = [each._replace(depends=each.depends or facts[0].depends) for each in results]
        else:
            bodies = (self.shared.program(closed(params["jaxpr"]), facts, twin=self.in_twin),)
            results = self.shared.of(bodies[0].outputs)
        return self.append(equation, inputs, bodies=bodies, results=results)

    def loop(self, jaxpr: ClosedJaxpr, facts: list[Facts], first: int, carried: int | None) -> Any:
        """Flatten the body of a loop, assuming of each carried value only what holds in every turn."""
        carry = slice(first, None if carried is None else first + carried)
        facts = list(facts)
        while True:
            body = self.shared.program(jaxpr, facts, twin=self.in_twin)
            results = self.shared.of(body.outputs)
            both = [joined(pair) for pair in zip(facts[carry], results, strict=False)]
            if both == facts[carry]:
                return (body,), results
            facts[carry] = both

    def append(
        self,
        equation: JaxprEqn,
        inputs: tuple[Atom, ...],
        *,
        bodies: tuple[Program, ...] = (),
        twin: Any = None,
        results: Sequence[Facts] | None = None,
    ) -> Sequence[Atom]:
        """Append an equation as it is, unless an equal one is there; return the numbers of its results."""
        key = _key(equation, inputs)
        if key is not None and key in self.computed:
            return self.computed[key]
        if results is None:
            avals: list[Any] = [atom.aval for atom in equation.outvars]
            results = [self.shared.infer(equation, inputs, aval.dtype) for aval in avals]
        outputs = tuple(self.shared.new(each) for each in results)
        node = Node(equation, inputs, outputs, bodies, twin, callers=self.callers)
        self.program.nodes.append(node)
        self.shared.makers.update(dict.fromkeys(outputs, node))
        if key is not None:
            self.computed[key] = outputs
        return outputs


def _key(equation: JaxprEqn, inputs: tuple[Atom, ...]) -> Any:
    """Make a key that equations share if they compute the same; None if unknown.

    A condition and the cases it chooses from are traced separately, and must be recognized as the same values.
    """
    if equation.effects or inside(equation):
        return None
    operands = [(str(atom.aval), repr(atom.val)) if isinstance(atom, Literal) else atom for atom in inputs]
    key = equation.primitive, tuple(operands), tuple(sorted(equation.params.items(), key=lambda item: item[0]))
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _shape(equation: JaxprEqn) -> tuple[int, ...]:
    return tuple(equation.invars[0].aval.shape)  # pyright: ignore[reportAttributeAccessIssue]
