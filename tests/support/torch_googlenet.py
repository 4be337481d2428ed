"""GoogLeNet in PyTorch with the names of torchvision's state dict: the reference for the Flax module."""

import torch
from support.googlenet_tensors import TABLE
from support.torch_reference import activations, randomized
from torch import nn


class BasicConv2d(nn.Module):
    def __init__(self, inputs, outputs, window, batch_norm, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, window, stride=stride, padding=window // 2, bias=not batch_norm)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001) if batch_norm else nn.Identity()

    def forward(self, x):
        return self.bn(self.conv(x)).relu()


class Inception(nn.Module):
    def __init__(self, inputs, one, reduce3, three, reduce5, five, projection, batch_norm):
        super().__init__()
        five_window = 3 if batch_norm else 5
        self.branch1 = BasicConv2d(inputs, one, 1, batch_norm)
        self.branch2 = nn.Sequential(
            BasicConv2d(inputs, reduce3, 1, batch_norm), BasicConv2d(reduce3, three, 3, batch_norm)
        )
        self.branch3 = nn.Sequential(
            BasicConv2d(inputs, reduce5, 1, batch_norm), BasicConv2d(reduce5, five, five_window, batch_norm)
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True), BasicConv2d(inputs, projection, 1, batch_norm)
        )

    def forward(self, x):
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class TorchGoogLeNet(nn.Module):
    """The version "bvlc" has Caffe's graph under torchvision's names: biases, no ``bn``, and ``norm1``, ``norm2``."""

    def __init__(self, version):
        super().__init__()
        self.version = version
        batch_norm = version == "torchvision"
        self.conv1 = BasicConv2d(3, 64, 7, batch_norm, stride=2)
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.norm1 = nn.Identity() if batch_norm else nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1)
        self.conv2 = BasicConv2d(64, 64, 1, batch_norm)
        self.conv3 = BasicConv2d(64, 192, 3, batch_norm)
        self.norm2 = nn.Identity() if batch_norm else nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1)
        self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.maxpool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.maxpool4 = nn.MaxPool2d(2 if batch_norm else 3, stride=2, ceil_mode=True)
        for name, channels in TABLE.items():
            setattr(self, f"inception{name}", Inception(*channels, batch_norm))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(1024, 1000)

    def preprocess(self, x):
        """From RGB in [0, 1], as the documentation of either version has it, step by step."""
        if self.version == "bvlc":
            return (255 * x).flip(1) - x.new_tensor([104, 117, 123])[:, None, None]
        mean, std = x.new_tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
        standardized = (x - mean) / std
        return standardized * (std / 0.5) + (mean - 0.5) / 0.5  # torchvision's _transform_input

    def forward(self, x):
        x = self.norm1(self.maxpool1(self.conv1(self.preprocess(x))))
        x = self.maxpool2(self.norm2(self.conv3(self.conv2(x))))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        for name in "abcde":
            x = getattr(self, f"inception4{name}")(x)
        x = self.inception5b(self.inception5a(self.maxpool4(x)))
        return self.fc(self.avgpool(x).flatten(1))


def random_network(version, seed=0):
    """A network in evaluation mode; weights, biases and running statistics are all random."""
    torch.manual_seed(seed)
    return randomized(TorchGoogLeNet(version))


_OTHER_NAMES = {f"pool{stage}": f"maxpool{stage}" for stage in (1, 2, 3, 4)} | {"pool": "avgpool", "classifier": "fc"}


def every_layer(network, images, layers):
    """The activations of the named layers in one forward pass, channels last."""
    modules = {layer: network.get_submodule(_OTHER_NAMES.get(layer, layer)) for layer in layers}
    return activations(network, images, modules)


_CAFFE_NAMES = {
    "conv1.": "conv1.7x7_s2.",
    "conv2.": "conv2.3x3_reduce.",
    "conv3.": "conv2.3x3.",
    "inception": "inception_",
    "branch1": "1x1",
    "branch2.0": "3x3_reduce",
    "branch2.1": "3x3",
    "branch3.0": "5x5_reduce",
    "branch3.1": "5x5",
    "branch4.1": "pool_proj",
    "conv.weight": "kernel",
    "conv.bias": "bias",
    "fc.weight": "loss3.classifier.kernel",
    "fc.bias": "loss3.classifier.bias",
}


def caffe_tensors(network):
    """The tensors of the bvlc version under Caffe's names, kernels HWIO: ``inception_4c.3x3_reduce.kernel``."""
    tensors = {}
    for name, tensor in network.state_dict().items():
        for old, new in _CAFFE_NAMES.items():
            name = name.replace(old, new)
        tensors[name] = tensor.permute({4: (2, 3, 1, 0), 2: (1, 0)}.get(tensor.ndim, (0,))).numpy()
    return tensors
