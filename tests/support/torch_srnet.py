"""SRNet in PyTorch, built from its description: the reference for the Flax module."""

import torch
from torch import nn
from torch.nn.functional import interpolate, pixel_unshuffle


def conv(inputs, outputs):
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class ResidualBlock(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.conv1, self.conv2 = conv(features, features), conv(features, features)

    def forward(self, x):
        return x + self.conv2(self.conv1(x).relu())


class TorchSRNet(nn.Module):
    def __init__(self, blocks=10, features=64):
        super().__init__()
        self.conv1 = conv(5 + 6 * 16, features)
        self.blocks = nn.Sequential(*(ResidualBlock(features) for _ in range(blocks)))
        self.up1, self.up2, self.conv = (conv(features, features) for _ in range(3))
        self.output = conv(features, 6)

    def forward(self, frame, previous):
        """The activations of every layer of one forward pass under the names that jifv gives them."""
        seen = {"conv1": self.conv1(torch.cat([frame, pixel_unshuffle(previous, 4)], 1)).relu()}
        x = seen["conv1"]
        for index, block in enumerate(self.blocks, 1):
            x = seen[f"block{index}"] = block(x)
        for name in ("up1", "up2"):
            x = interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = seen[name] = getattr(self, name)(x).relu()
        x = seen["conv"] = self.conv(x).relu()
        x = self.output(x)
        upscaled = interpolate(frame, scale_factor=4, mode="bilinear", align_corners=False)
        seen["output"] = x + nn.functional.pad(upscaled, (0, 0, 0, 0, 0, 1))
        return seen


def random_network(seed=0, **sizes):
    """All weights and biases are random, of a size that keeps the activations near 1."""
    torch.manual_seed(seed)
    network = TorchSRNet(**sizes).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                module.bias.normal_(0, 0.2)
        for block in network.blocks:
            block.conv2.weight.mul_(0.3)
    return network


def every_layer(network, frame, previous):
    """The same, from and to NumPy arrays with channels last."""
    with torch.no_grad():
        seen = network(*(torch.tensor(array).permute(0, 3, 1, 2) for array in (frame, previous)))
    return {name: array.permute(0, 2, 3, 1).numpy().copy() for name, array in seen.items()}


def flax_variables(network):
    """The network's weights as the variables of the Flax module: OIHW → HWIO."""

    def leaves(module):
        weight, bias = module.weight.detach().numpy(), module.bias.detach().numpy()
        return {"kernel": weight.transpose(2, 3, 1, 0), "bias": bias}

    params = {name: leaves(getattr(network, name)) for name in ("conv1", "up1", "up2", "conv", "output")}
    for index, block in enumerate(network.blocks, 1):
        params[f"block{index}"] = {name: leaves(getattr(block, name)) for name in ("conv1", "conv2")}
    return {"params": params}
