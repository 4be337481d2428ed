"""The networks of the paper as Flax modules, with weights that this project trained."""

from .densenet import DenseNet
from .storage import read_weights, write_weights
from .zoo import Network, available, load

__all__ = ["DenseNet", "Network", "available", "load", "read_weights", "write_weights"]
