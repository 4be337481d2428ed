"""All operations that are known, by the names of PyTorch's operators."""

from collections.abc import Callable

from jifv._aten.elementwise import ELEMENTWISE
from jifv._aten.joining import JOINING
from jifv._aten.shaping import SHAPING
from jifv._aten.spatial import SPATIAL

TABLE: dict[str, Callable] = {**ELEMENTWISE, **SHAPING, **JOINING, **SPATIAL}
