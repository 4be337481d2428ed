"""DenseNet-BC for CIFAR in PyTorch, with the names of public checkpoints: the reference for the Flax module."""

import math

import torch
from support.torch_reference import activations, randomized
from torch import nn

POOLS = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}


class Bottleneck(nn.Module):
    def __init__(self, channels, growth):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 4 * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x):
        new = self.conv2(self.bn2(self.conv1(self.bn1(x).relu())).relu())
        return torch.cat([x, new], 1)


class DenseBlock(nn.Module):
    def __init__(self, depth, channels, growth):
        super().__init__()
        self.layer = nn.Sequential(*(Bottleneck(channels + i * growth, growth) for i in range(depth)))

    def forward(self, x):
        return self.layer(x)


class Transition(nn.Module):
    def __init__(self, channels, kept, pool):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, kept, 1, bias=False)
        self.pool = POOLS[pool](2)

    def forward(self, x):
        return self.pool(self.conv1(self.bn1(x).relu()))


class TorchDenseNet(nn.Module):
    def __init__(self, pool, blocks=(16, 16, 16), growth=12, reduction=0.5, classes=10):
        super().__init__()
        self.register_buffer("shift", torch.tensor([0.4914, 0.4822, 0.4465])[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor([0.2023, 0.1994, 0.2010])[:, None, None], persistent=False)
        self.blocks, channels = blocks, 2 * growth
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        for block, depth in enumerate(blocks, 1):
            setattr(self, f"block{block}", DenseBlock(depth, channels, growth))
            channels += depth * growth
            if block < len(blocks):
                kept = math.floor(channels * reduction)
                setattr(self, f"trans{block}", Transition(channels, kept, pool))
                channels = kept
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        x = self.conv1((x - self.shift) / self.scale)
        for block in range(1, len(self.blocks) + 1):
            x = getattr(self, f"block{block}")(x)
            x = getattr(self, f"trans{block}")(x) if block < len(self.blocks) else x
        return self.fc(self.pool(self.relu(self.bn1(x))).flatten(1))


def random_network(pool, seed=0, **architecture):
    """A network in evaluation mode; weights, biases and running statistics are all random."""
    torch.manual_seed(seed)
    return randomized(TorchDenseNet(pool, **architecture))


def every_layer(network, images):
    """The activations of every layer of one forward pass, channels last, under the names that jifv gives them."""
    modules = {"stem": network.conv1, "features": network.relu, "pool": network.pool, "classifier": network.fc}
    for block in range(1, len(network.blocks) + 1):
        modules[f"dense{block}"] = getattr(network, f"block{block}")
        if block < len(network.blocks):
            modules[f"transition{block}"] = getattr(network, f"trans{block}")
        for index, layer in enumerate(getattr(network, f"block{block}").layer):
            modules[f"dense{block}.{index}"] = layer.conv2
    return activations(network, images, modules)
