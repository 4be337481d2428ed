"""A gradient of DenseNet's training: with the block that works in parts, automatically, and by PyTorch.

    python benchmarks/training.py --threads 1 --out benchmarks/results

The loss and its gradient with respect to every weight, for a batch normalized by its own moments, from the shipped
weights. The automatic one is that of the block's definition, with the moments of a channel computed once, too.
"""

from harness import networks, pairs

CLASSES = 10
TOLERANCE = (1e-5, 0.01, 0.01)
"""Of the loss and two gradients, in which a ReLU at a kink, where rounding decides, makes a thousandth."""


def batch_of(size, count):
    import numpy as np

    rng = np.random.default_rng(size)
    return rng.uniform(size=(count, size, size, 3)).astype(np.float32), rng.integers(0, CLASSES, count)


def ours(size, count, automatic):
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    from jifv.models import read_weights
    from jifv.models.networks import densenet

    if automatic:
        densenet.trained_dense_block = _defined
    model, variables = densenet.DenseNet(), read_weights(networks.weights("densenet", ""))[0]
    x, labels = map(jnp.asarray, batch_of(size, count))

    @jax.jit
    def gradient(params, x):
        def loss(params):
            given = {"params": params, "batch_stats": variables["batch_stats"]}
            scores, _ = model.apply(given, x, train=True, mutable=["batch_stats"])
            return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()

        return jax.value_and_grad(loss)(params)

    def run():
        loss, of_params = jax.block_until_ready(gradient(variables["params"], x))
        of_kernels = (of_params["stem"]["kernel"], of_params["dense2.3"]["conv2"]["kernel"])
        return [np.asarray(loss), *(np.asarray(kernel).transpose(3, 2, 0, 1) for kernel in of_kernels)]

    return run


def _defined(x, moments_of_x, layers):
    import jax
    import jax.numpy as jnp

    from jifv._layers.convolution import convolve
    from jifv.models.networks.layers import gain_and_offset, moments

    moments_of_all, inner_moments = moments_of_x, []
    for layer in layers:
        gain, offset = gain_and_offset(layer.scale, layer.bias, *moments_of_all)
        squeezed = jax.nn.relu(x * gain + offset) @ layer.squeeze
        inner_moments.append(moments(squeezed))
        gain, offset = gain_and_offset(layer.inner_scale, layer.inner_bias, *inner_moments[-1])
        new = convolve(jax.nn.relu(squeezed * gain + offset), layer.kernel)
        moments_of_all = tuple(map(jnp.concatenate, zip(moments_of_all, moments(new), strict=True)))
        x = jnp.concatenate([x, new], -1)
    return x, moments_of_all, inner_moments


def theirs(size, count, channels_last):
    import torch
    from torch.nn.functional import cross_entropy

    network = networks.torch_network("densenet", networks.weights("densenet", "")).train()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = network.to(memory_format=layout)
    x, labels = batch_of(size, count)
    x = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    labels = torch.from_numpy(labels)
    kernels = dict(network.named_parameters())

    def run():
        network.zero_grad()
        loss = cross_entropy(network(x), labels)
        loss.backward()
        return [loss.detach().numpy(), *(kernels[name].grad.numpy().copy() for name in KERNELS)]

    return run


KERNELS = ("conv1.weight", "block2.layer.3.conv2.weight")
"""PyTorch's names of the kernels whose gradients are compared: the first convolution's and one in the second block."""


def main():
    parser = pairs.parser(__doc__, rounds=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--sizes", nargs="+", type=int, default=[16, 24, 32], help="sides of the images")
    options = parser.parse_args()
    report = pairs.Report("training", options)
    for size in options.sizes:
        case = size, options.batch
        sides = [
            pairs.Side("in parts", ours, (*case, False)),
            pairs.Side("automatic", ours, (*case, True)),
            pairs.Side("PyTorch", theirs, (*case, False)),
            pairs.Side("PyTorch, channels last", theirs, (*case, True)),
        ]
        report.compare(f"{options.batch} images of {size}×{size}", sides, tolerance=TOLERANCE)


if __name__ == "__main__":
    main()
