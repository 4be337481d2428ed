"""Small networks of PyTorch, one for each family: what `from_torch` has to bring over. As the papers have them."""

import torch
from support.torch_reference import randomized
from torch import nn
from torch.nn import functional


class VGG(nn.Module):
    """Simonyan & Zisserman 2015: convolutions with bias, pools, and a classifier on the flattened map."""

    def __init__(self, widths=(6, 8), classes=5):
        super().__init__()
        layers, channels = [], 3
        for width in widths:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2, 2)]
            channels = width
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((3, 3))
        self.classifier = nn.Sequential(nn.Linear(9 * channels, 7), nn.ReLU(True), nn.Dropout(), nn.Linear(7, classes))

    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class DenseLayer(nn.Module):
    def __init__(self, channels, growth):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(channels), nn.Conv2d(channels, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        new = self.conv2(self.relu(self.norm2(self.conv1(self.relu(self.norm1(x))))))
        return torch.cat([x, new], 1)


class DenseNet(nn.Module):
    """Huang et al. 2017 for ImageNet; with blocks (6, 12, 24, 16) and growth 32 it is DenseNet-121."""

    def __init__(self, blocks=(2, 2), growth=4, classes=5):
        super().__init__()
        channels = 2 * growth
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        stages = []
        for index, depth in enumerate(blocks):
            stages.append(nn.Sequential(*(DenseLayer(channels + i * growth, growth) for i in range(depth))))
            channels += depth * growth
            if index < len(blocks) - 1:
                norm, kept = nn.BatchNorm2d(channels), channels // 2
                stages.append(nn.Sequential(norm, nn.ReLU(), nn.Conv2d(channels, kept, 1), nn.AvgPool2d(2, 2)))
                channels = kept
        self.stages, self.norm = nn.Sequential(*stages), nn.BatchNorm2d(channels)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x):
        x = functional.relu(self.norm(self.stages(self.stem(x))), inplace=True)
        return self.classifier(torch.flatten(functional.adaptive_avg_pool2d(x, (1, 1)), 1))


class SqueezeExcite(nn.Module):
    def __init__(self, channels, squeezed, activation, gate):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)
        self.activation, self.gate = activation, gate

    def forward(self, x):
        return x * self.gate(self.fc2(self.activation(self.fc1(functional.adaptive_avg_pool2d(x, 1)))))


class InvertedResidual(nn.Module):
    """Sandler et al. 2018, with squeeze and excite: expand, depthwise, gate, project."""

    def __init__(self, channels, width, out, window, stride, activation, gate):
        super().__init__()
        self.residual = stride == 1 and channels == out
        self.block = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False),
            nn.BatchNorm2d(width, eps=1e-3),
            activation(),
            nn.Conv2d(width, width, window, stride, window // 2, groups=width, bias=False),
            nn.BatchNorm2d(width, eps=1e-3),
            activation(),
            SqueezeExcite(width, width // 4, nn.ReLU() if gate is nn.Hardsigmoid else activation(), gate()),
            nn.Conv2d(width, out, 1, bias=False),
            nn.BatchNorm2d(out, eps=1e-3),
        )

    def forward(self, x):
        return x + self.block(x) if self.residual else self.block(x)


class Mobile(nn.Module):
    """MobileNetV3 (Howard et al. 2019) with hard swish, EfficientNet (Tan & Le 2019) with swish."""

    def __init__(self, activation, gate, rows, channels=8, last=10, classes=5):
        super().__init__()
        stages = [nn.Sequential(nn.Conv2d(3, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels), activation())]
        for width, out, window, stride in rows:
            stages.append(InvertedResidual(channels, width, out, window, stride, activation, gate))
            channels = out
        self.features = nn.Sequential(*stages)
        self.classifier = nn.Sequential(
            nn.Linear(channels, last), activation(), nn.Dropout(0.2), nn.Linear(last, classes)
        )

    def forward(self, x):
        return self.classifier(self.features(x).mean([2, 3]))


ROWS = ((16, 8, 3, 1), (24, 12, 5, 2), (24, 12, 3, 1))
"""Width, channels, window and stride of the inverted residuals."""

MOBILENETV3_LARGE = (
    *((16, 16, 3, 1), (64, 24, 3, 2), (72, 24, 3, 1), (72, 40, 5, 2), (120, 40, 5, 1), (120, 40, 5, 1)),
    *((240, 80, 3, 2), (200, 80, 3, 1), (184, 80, 3, 1), (184, 80, 3, 1), (480, 112, 3, 1), (672, 112, 3, 1)),
    *((672, 160, 5, 2), (960, 160, 5, 1), (960, 160, 5, 1)),
)
"""Table 1 of Howard et al. 2019; squeeze and excite, and hard swish, are in every row here."""

EFFICIENTNET_B0 = tuple(
    (expansion * (channels if index == 0 else out), out, window, stride if index == 0 else 1)
    for expansion, channels, out, count, window, stride in (
        *((1, 32, 16, 1, 3, 1), (6, 16, 24, 2, 3, 2), (6, 24, 40, 2, 5, 2), (6, 40, 80, 3, 3, 2)),
        *((6, 80, 112, 3, 5, 1), (6, 112, 192, 4, 5, 2), (6, 192, 320, 1, 3, 1)),
    )
    for index in range(count)
)
"""Table 1 of Tan & Le 2019."""


class InceptionBlock(nn.Module):
    """Branches of Szegedy et al. 2016: windows of 1×7 and 7×1, a mean over 3×3 without the margin, a stride of 2."""

    def __init__(self, channels):
        super().__init__()
        self.long = nn.Sequential(
            nn.Conv2d(channels, 4, (1, 7), padding=(0, 3)), nn.ReLU(), nn.Conv2d(4, 5, (7, 1), padding=(3, 0))
        )
        self.pooled = nn.Conv2d(channels, 3, 1)
        self.small = nn.Conv2d(8, 6, 3, stride=2)

    def forward(self, x):
        mean = functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        x = functional.relu(torch.cat([self.long(x), self.pooled(mean)], 1))
        return torch.cat([self.small(x), functional.max_pool2d(x, 3, stride=2)], 1)


class Inception(nn.Module):
    def __init__(self, classes=5):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2),
            nn.ReLU(),
            nn.Conv2d(6, 7, 3),
            nn.ReLU(),
            nn.LocalResponseNorm(5, alpha=0.1),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
        )
        self.block, self.fc = InceptionBlock(7), nn.Linear(14, classes)

    def forward(self, x):
        return self.fc(self.block(self.stem(x)).mean((2, 3)))


class Transformer(nn.Module):
    """Dosovitskiy et al. 2021, of PyTorch's own layers: patches, the token of a class, attention."""

    def __init__(self, width=12, classes=5):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, stride=8)
        self.token, self.places = nn.Parameter(torch.randn(1, 1, width)), nn.Parameter(torch.randn(1, 17, width))
        layer = nn.TransformerEncoderLayer(width, 3, 20, activation="gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.heads = nn.Linear(width, classes)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        return self.heads(self.encoder(torch.cat([self.token, x], 1) + self.places)[:, 0])


BUILDERS = {
    "vgg": VGG,
    "densenet": DenseNet,
    "mobilenetv3": lambda: Mobile(nn.Hardswish, nn.Hardsigmoid, ROWS),
    "efficientnet": lambda: Mobile(nn.SiLU, nn.Sigmoid, ROWS),
    "inception": Inception,
    "transformer": Transformer,
}


FULL = {
    "densenet": lambda: DenseNet((6, 12, 24, 16), 32, classes=10),
    "mobilenetv3": lambda: Mobile(nn.Hardswish, nn.Hardsigmoid, MOBILENETV3_LARGE, 16, 1280, 10),
    "efficientnet": lambda: Mobile(nn.SiLU, nn.Sigmoid, EFFICIENTNET_B0, 32, 1280, 10),
}
"""The networks of the papers: DenseNet-121, MobileNetV3-Large, EfficientNet-B0."""


def random_network(name, seed=0, builders=BUILDERS):
    """A network in evaluation mode with random weights and statistics."""
    torch.manual_seed(seed)
    return randomized(builders[name]())


SMALL_CONFIGURATIONS = {
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "bottleneck"},
    "convnext": {"num_stages": 2, "hidden_sizes": [8, 12], "depths": [1, 1], "layer_scale_init_value": 0.5},
    "vit": {
        "hidden_size": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 20,
        "image_size": 32,
        "patch_size": 8,
    },
    "swin": {
        "image_size": 32,
        "patch_size": 2,
        "embed_dim": 8,
        "depths": [2, 1],
        "num_heads": [2, 4],
        "window_size": 4,
    },
}
FULL_CONFIGURATIONS = {
    "resnet": {},
    "convnext": {"layer_scale_init_value": 0.5},
    "vit": {"image_size": 64},
    "swin": {"image_size": 128, "window_size": 4},
}
"""The defaults of `transformers`: ResNet-50, ConvNeXt-T, ViT-B/16 and Swin-T, for images smaller than 224×224."""


def hugging_face(name, classes=5, **configuration):
    """A network of `transformers` with random weights, in evaluation mode."""
    import transformers

    torch.manual_seed(0)
    title = {"resnet": "ResNet", "convnext": "ConvNext", "vit": "ViT", "swin": "Swin"}[name]
    config = getattr(transformers, f"{title}Config")(num_labels=classes, **configuration)
    if name == "vit":
        config._attn_implementation = "sdpa"
    return randomized(getattr(transformers, f"{title}ForImageClassification")(config))
