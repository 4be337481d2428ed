"""The parts of `jifv.visualization`: settings, state, the gradient of a batch, Adam and L-BFGS."""
