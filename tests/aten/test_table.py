"""Every operation of the table, called as PyTorch's operator is, gives what that gives; in any order of axes."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from jifv._aten.table import TABLE
from jifv._aten.tensor import CHANNELS_LAST, Tensor, tensor

torch = pytest.importorskip("torch", reason="the reference is PyTorch")

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape)


def positive(*shape):
    return RNG.uniform(0.5, 2, shape)


X, Y, P = normal(1, 3, 4, 5), normal(1, 3, 4, 5), positive(1, 3, 4, 5)
SMALL, B, C = normal(3, 1, 1), X > 0, Y > 0
WIDE = normal(1, 4, 7, 8)
INDEX = np.array([[2, 0], [1, 2]])

# Arguments of each operator, those by keyword as a dictionary behind; arrays become tensors.
CASES = [
    ("_adaptive_avg_pool2d", WIDE, (3, 5)),
    ("_adaptive_avg_pool2d", WIDE, (1, 1)),
    ("_log_softmax", X, 1, False),
    ("_native_batch_norm_legit_no_training", X, positive(3), normal(3), normal(3), positive(3), 0.1, 1e-3),
    ("_native_batch_norm_legit_no_training", X, None, None, normal(3), positive(3), 0.1, 1e-3),
    ("_prelu_kernel", X, positive(1, 3, 1, 1)),
    ("_softmax", X, -1, False),
    ("_to_copy", X),
    ("_unsafe_view", X, (3, 4, 5)),
    ("abs", X),
    ("adaptive_avg_pool1d", normal(1, 3, 8), (3,)),
    ("adaptive_max_pool2d", WIDE[..., :6, :], (2, 4)),
    ("add.Scalar", X, 2.5),
    ("add.Tensor", X, SMALL),
    ("add.Tensor", SMALL, X),
    ("addmm", normal(5), normal(2, 3), normal(3, 5)),
    ("alias", X),
    ("amax", X, (2, 3), True),
    ("amax", X, (1,)),
    ("amin", X, (1, 3)),
    ("any", B),
    ("any.dim", B, 2),
    ("arange.start_step", 1, 9, 2),
    ("avg_pool2d", WIDE, (3, 2)),
    ("avg_pool2d", WIDE, (3, 3), (2, 2), (1, 1), True, True),
    ("avg_pool2d", WIDE, (3, 3), (2, 2), (1, 1), True, False),
    ("avg_pool2d", WIDE, (2, 3), (2, 3), (0, 1), False, False, 5),
    ("avg_pool3d", normal(1, 1, 6, 4, 5), (5, 1, 1), (1, 1, 1)),
    ("bitwise_and.Tensor", B, C),
    ("bitwise_not", B),
    ("bitwise_or.Tensor", B, C),
    ("bmm", normal(2, 3, 4), normal(2, 4, 5)),
    ("cat", (X, Y), 1),
    ("ceil", X),
    ("clamp", X, -0.5, 0.7),
    ("clamp", X, None, 0.7),
    ("clone", X),
    ("constant_pad_nd", X, (1, 2, 0, -1), 0.5),
    ("convolution", WIDE, normal(6, 4, 3, 3), normal(6), (1, 1), (1, 1), (1, 1), False, (0, 0), 1),
    ("convolution", WIDE, normal(6, 4, 3, 3), None, (2, 2), (1, 1), (1, 1), False, (0, 0), 1),
    ("convolution", WIDE, normal(6, 4, 1, 1), None, (2, 2), (0, 0), (1, 1), False, (0, 0), 1),
    ("convolution", WIDE, normal(6, 4, 2, 2), None, (2, 2), (0, 0), (1, 1), False, (0, 0), 1),
    ("convolution", WIDE, normal(6, 4, 1, 5), None, (1, 1), (0, 2), (1, 1), False, (0, 0), 1),
    ("convolution", WIDE, normal(6, 4, 3, 2), None, (2, 1), (0, 1), (2, 1), False, (0, 0), 1),
    ("convolution", WIDE, normal(8, 2, 3, 3), normal(8), (2, 2), (1, 1), (1, 1), False, (0, 0), 2),
    ("convolution", WIDE, normal(4, 1, 3, 3), None, (1, 1), (1, 1), (1, 1), False, (0, 0), 4),
    ("convolution", WIDE, normal(4, 2, 3, 2), normal(2), (2, 1), (1, 0), (1, 1), True, (1, 0), 1),
    ("convolution", WIDE, normal(4, 3, 3, 3), normal(6), (2, 2), (1, 1), (1, 1), True, (0, 0), 2),
    ("copy", X, Y),
    ("cos", X),
    ("detach", X),
    ("div.Scalar", X, 3.0),
    ("div.Tensor", X, P),
    ("div.Tensor_mode", X, P, {"rounding_mode": "floor"}),
    ("elu", 100 * X, 0.7),
    ("embedding", normal(5, 3), INDEX),
    ("eq.Scalar", B, 1),
    ("eq.Tensor", B, C),
    ("erf", X),
    ("exp", X),
    ("expand", SMALL, (2, 3, 4, -1)),
    ("expm1", X),
    ("flip", X, (2,)),
    ("floor", X),
    ("full", (2, 3), 1.5),
    ("full_like", X, 1.5),
    ("ge.Scalar", X, 0.0),
    ("ge.Tensor", X, Y),
    ("gelu", X),
    ("gelu", X, {"approximate": "tanh"}),
    ("gt.Scalar", X, 0.0),
    ("gt.Tensor", X, Y),
    ("hardsigmoid", 4 * X),
    ("hardswish", 4 * X),
    ("hardtanh", X, -0.3, 0.6),
    ("index.Tensor", normal(3, 4), (INDEX,)),
    ("index.Tensor", X, (None, INDEX)),
    ("index_put", normal(3, 4), (np.array([2, 0]),), normal(2, 4)),
    ("index_select", X, 2, np.array([3, 0])),
    ("le.Scalar", X, 0.0),
    ("le.Tensor", X, Y),
    ("leaky_relu", X, 0.2),
    ("lift_fresh_copy", X),
    ("linear", X, normal(6, 5), normal(6)),
    ("log", P),
    ("log1p", P),
    ("logical_and", B, C),
    ("logical_not", B),
    ("logical_or", B, C),
    ("lt.Scalar", X, 0.0),
    ("lt.Tensor", X, Y),
    ("matmul", X, normal(5, 2)),
    ("max_pool2d_with_indices", WIDE, (3, 3), (2, 2), (1, 1)),
    ("max_pool2d_with_indices", WIDE, (3, 2), (2, 2), (0, 0), (1, 1), True),
    ("maximum", X, Y),
    ("mean", X),
    ("mean.dim", X, (2, 3), True),
    ("mean.dim", X, (-1, -2)),
    ("minimum", X, Y),
    ("mm", normal(2, 3), normal(3, 4)),
    ("mul.Scalar", X, 3.0),
    ("mul.Tensor", X, SMALL),
    ("native_group_norm", WIDE, positive(4), normal(4), 1, 4, 56, 2, 1e-3),
    ("native_layer_norm", X, (4, 5), positive(4, 5), normal(4, 5), 1e-3),
    ("native_layer_norm", X, (5,), None, None, 1e-3),
    ("ne.Scalar", B, 1),
    ("ne.Tensor", B, C),
    ("neg", X),
    ("permute", X, (0, 2, -1, 1)),
    ("pow.Scalar", 2.0, X),
    ("pow.Tensor_Scalar", P, 0.75),
    ("pow.Tensor_Scalar", X, 3.0),
    ("pow.Tensor_Tensor", P, X),
    ("reciprocal", P),
    ("relu", X),
    ("repeat", X, (2, 1, 1, 2)),
    ("reshape", X, (1, 12, -1)),
    ("roll", X, (1, -2), (2, 3)),
    ("roll", X, (7,)),
    ("rsqrt", P),
    ("rsub.Scalar", X, 2.0),
    ("scalar_tensor", 2.5),
    ("scaled_dot_product_attention", normal(1, 2, 4, 3), normal(1, 2, 5, 3), normal(1, 2, 5, 3)),
    ("scaled_dot_product_attention", *normal(3, 1, 2, 4, 3), normal(1, 1, 4, 4)),
    ("scaled_dot_product_attention", *normal(3, 1, 2, 4, 3), None, 0.0, True),
    ("select.int", X, 1, -2),
    ("select_scatter", X, normal(1, 4, 5), 1, 2),
    ("sigmoid", X),
    ("sign", X),
    ("silu", X),
    ("sin", X),
    ("slice.Tensor", X, 2, 1, 9223372036854775807),
    ("slice.Tensor", X, 3, -4, -1, 2),
    ("slice_scatter", X, normal(1, 3, 2, 5), 2, 1, 3),
    ("softplus", 30 * X, 0.8),
    ("split.Tensor", X, 2, 1),
    ("split_with_sizes", X, (1, 4), -1),
    ("sqrt", P),
    ("squeeze.dim", X, 0),
    ("squeeze.dims", normal(1, 3, 1), (0, 1)),
    ("stack", (X, Y), 2),
    ("sub.Scalar", X, 3.0),
    ("sub.Tensor", X, SMALL),
    ("sum", X),
    ("sum.dim_IntList", X, (1,), True),
    ("tanh", X),
    ("transpose.int", X, 1, -1),
    ("unbind.int", X, 1),
    ("unsqueeze", X, -1),
    ("unsqueeze", X, 1),
    ("upsample_bilinear2d", WIDE, (9, 5), False),
    ("upsample_bilinear2d", WIDE, (9, 5), True),
    ("upsample_bilinear2d.vec", WIDE, None, False, (2.0, 1.5)),
    ("upsample_nearest2d", WIDE, (9, 5)),
    ("upsample_nearest2d.vec", WIDE, None, (2.0, 1.5)),
    ("var.correction", X, (1, 2), {"correction": 0, "keepdim": True}),
    ("var_mean.correction", X, (1,)),
    ("view", X, (1, 12, 5)),
    ("view", WIDE, (1, 2, 2, 7, 8)),
    ("view", normal(1, 4, 1, 1), (1, 4)),
    ("where.self", B, X, Y),
]


def converted(argument, make):
    if isinstance(argument, np.ndarray):
        return make(argument)
    if isinstance(argument, tuple):
        return [converted(each, make) for each in argument]
    return argument


def shuffled(array):
    """A tensor whose axes lie in another order; weights with fewer axes as they are, NumPy's."""
    if array.ndim < 3 or array.ndim > 4:
        return tensor(array)
    order = CHANNELS_LAST if array.ndim == 4 else (0, 2, 1)
    return Tensor(jax.numpy.asarray(array.transpose(order)), order)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_operation_is_pytorchs(case, x64):
    name, *arguments = case
    packet, _, overload = name.partition(".")
    operator = getattr(getattr(torch.ops.aten, packet), overload or "default")
    options = arguments.pop() if isinstance(arguments[-1], dict) else {}
    floats = {"dtype": torch.float64} if packet in ("full", "scalar_tensor") else {}
    expected = operator(*(converted(each, torch.tensor) for each in arguments), **options, **floats)
    found = TABLE[name](*(converted(each, shuffled) for each in arguments), **options)
    expected = expected if isinstance(expected, (tuple, list)) else (expected,)
    found = found if isinstance(found, (tuple, list)) and not isinstance(found, Tensor) else (found,)
    compared = 0
    for ours, theirs in zip(found, expected, strict=False):
        if ours is not None:
            assert ours.shape == tuple(theirs.shape)
            np.testing.assert_allclose(ours.plain, theirs.numpy(), rtol=1e-9, atol=1e-12)
            compared += 1
    assert compared


def test_every_operation_has_a_case():
    assert {name for name, *_ in CASES} | {"getitem", "local_response_norm"} == set(TABLE)


def test_the_page_lists_the_table():
    page = (Path(__file__).parents[2] / "docs" / "networks.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"<!-- table -->(.*)<!-- end of table -->", page, re.DOTALL)
    listed = re.findall(r"`(\w+)`", table)
    assert sorted(listed) == sorted({name.partition(".")[0] for name in TABLE} - {"getitem"})
