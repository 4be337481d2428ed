"""The paper's networks as Flax modules, with weights that this project has trained or converts."""

from jifv.models.files.cache import store
from jifv.models.files.convert import Converted, convert
from jifv.models.files.fetch import fetch
from jifv.models.files.pictures import fit_picture, load_picture
from jifv.models.files.storage import read_weights, write_weights
from jifv.models.networks.densenet import DenseNet
from jifv.models.networks.googlenet import GoogLeNet
from jifv.models.networks.srnet import SRNet
from jifv.models.zoo import Listing, Network, available, layer_shapes, listings, load

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
    "fit_picture",
    "layer_shapes",
    "listings",
    "load",
    "load_picture",
    "read_weights",
    "store",
    "write_weights",
]
