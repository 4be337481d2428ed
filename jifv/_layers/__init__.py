"""Layers that are fast on CPUs, and so are their gradients: for the networks here and for those brought over."""
