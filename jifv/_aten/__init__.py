"""Networks as graphs of ATen operations, PyTorch's vocabulary: exporting, keeping and evaluating them.

Only `export` needs PyTorch. A graph and its weights are plain data.
"""
