"""The architectures: Flax Linen modules and the layers that they share."""
