"""The networks of the paper as Flax modules, with weights that this project trained or converts."""

from .cache import store
from .convert import Converted, convert
from .densenet import DenseNet
from .fetch import fetch
from .googlenet import GoogLeNet
from .srnet import SRNet
from .storage import read_weights, write_weights
from .zoo import Listing, Network, available, listings, load

__all__ = [
    "Converted",
    "DenseNet",
    "GoogLeNet",
    "Listing",
    "Network",
    "SRNet",
    "available",
    "convert",
    "fetch",
    "listings",
    "load",
    "read_weights",
    "store",
    "write_weights",
]
