"""GoogLeNet's tensors as the files of torchvision, Caffe and ONNX have them: names and shapes, written down again."""

import numpy as np

# Input, then 1x1, 3x3_reduce, 3x3, 5x5_reduce, 5x5, pool_proj: table 1 of Szegedy et al. 2015.
TABLE = {
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}


def convolutions(five):
    """(path here, Caffe's layer, torchvision's module, shape OIHW) of each; ``five`` is the side of a "5×5" window."""
    yield ("conv1",), "conv1/7x7_s2", "conv1", (64, 3, 7, 7)
    yield ("conv2",), "conv2/3x3_reduce", "conv2", (64, 64, 1, 1)
    yield ("conv3",), "conv2/3x3", "conv3", (192, 64, 3, 3)
    for block, (inputs, one, reduce3, three, reduce5, five_out, projection) in TABLE.items():
        for name, branch, shape in [
            ("1x1", "branch1", (one, inputs, 1, 1)),
            ("3x3_reduce", "branch2.0", (reduce3, inputs, 1, 1)),
            ("3x3", "branch2.1", (three, reduce3, 3, 3)),
            ("5x5_reduce", "branch3.0", (reduce5, inputs, 1, 1)),
            ("5x5", "branch3.1", (five_out, reduce5, five, five)),
            ("pool_proj", "branch4.1", (projection, inputs, 1, 1)),
        ]:
            yield (f"inception{block}", name), f"inception_{block}/{name}", f"inception{block}.{branch}", shape


def torchvision():
    """The state dict, and the variables it must become: {path: array}."""
    rng = np.random.default_rng(0)
    state, variables = {}, {}
    for path, _, module, shape in convolutions(3):
        kernel = rng.random(shape, np.float32)
        state[f"{module}.conv.weight"] = kernel
        variables["params", *path, "kernel"] = np.einsum("oihw->hwio", kernel)
        for leaf, *target in [
            ("weight", "params", "scale"),
            ("bias", "params", "bias"),
            ("running_mean", "batch_stats", "mean"),
            ("running_var", "batch_stats", "var"),
        ]:
            state[f"{module}.bn.{leaf}"] = rng.random(shape[0], np.float32)
            variables[target[0], *path, "norm", target[1]] = state[f"{module}.bn.{leaf}"]
        state[f"{module}.bn.num_batches_tracked"] = np.array(7)
    state["aux1.conv.conv.weight"] = rng.random((128, 512, 1, 1), np.float32)
    state["aux1.fc1.bias"] = rng.random(1024, np.float32)
    state["aux2.conv.bn.running_var"] = rng.random(128, np.float32)
    state["fc.weight"] = rng.random((1000, 1024), np.float32)
    state["fc.bias"] = rng.random(1000, np.float32)
    variables["params", "classifier", "kernel"] = state["fc.weight"].T
    variables["params", "classifier", "bias"] = state["fc.bias"]
    return state, variables


def caffe():
    """Caffe's layers, {name: (kernel, bias)}, and the variables they must become: {path: array}."""
    rng = np.random.default_rng(1)
    layers, variables = {}, {}
    for path, layer, _, shape in convolutions(5):
        kernel, bias = rng.random(shape, np.float32), rng.random(shape[0], np.float32)
        layers[layer] = kernel, bias
        variables["params", *path, "kernel"] = np.einsum("oihw->hwio", kernel)
        variables["params", *path, "bias"] = bias
    layers["loss1/conv"] = rng.random((128, 512, 1, 1), np.float32), rng.random(128, np.float32)
    layers["loss2/classifier"] = rng.random((1000, 4), np.float32), rng.random(1000, np.float32)
    kernel, bias = layers["loss3/classifier"] = rng.random((1000, 1024), np.float32), rng.random(1000, np.float32)
    variables["params", "classifier", "kernel"] = kernel.T
    variables["params", "classifier", "bias"] = bias
    return layers, variables


def caffe2_names(layers):
    """The layers as tensors under the names of Caffe2 and ONNX."""
    return {f"{layer}_{letter}_0": blob for layer, blobs in layers.items() for letter, blob in zip("wb", blobs)}  # noqa: B905


def npz_names(layers):
    """The layers as tensors under the names of the layer-wise npz, kernels HWIO."""
    tensors = {}
    for layer, (kernel, bias) in layers.items():
        name = layer.replace("/", ".")
        tensors[f"{name}.kernel"] = kernel.T if kernel.ndim == 2 else np.einsum("oihw->hwio", kernel)
        tensors[f"{name}.bias"] = bias
    return tensors
