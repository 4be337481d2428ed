"""What the reference networks in PyTorch share: random weights, and the activations of their layers."""

import torch
from torch import nn


def randomized(network):
    """The network in evaluation mode; weights, biases of convolutions and running statistics are all random."""
    network.eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.5)
                module.running_mean.normal_(0, 0.5)
                module.running_var.uniform_(0.5, 2)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    module.bias.normal_(0, 0.5)
    return network


def activations(network, images, modules):
    """The output of every module in one forward pass, channels last, under the names that ``modules`` gives them."""
    seen = {}
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, out, name=name: seen.update({name: out}))
        for name, module in modules.items()
    ]
    with torch.no_grad():
        network(torch.tensor(images).permute(0, 3, 1, 2))
    for hook in hooks:
        hook.remove()
    # A copy: NumPy sees torch's own memory, which an operation in place would change.
    arrays = {name: out.permute(0, 2, 3, 1) if out.ndim == 4 else out for name, out in seen.items()}
    arrays["pool"] = arrays["pool"][:, 0, 0]
    return {name: array.numpy().copy() for name, array in arrays.items()}
