from support.srnet_record import RECORD

from jifv.models.training.record import densenet_card, srnet_card


def test_the_card_of_an_srnet():
    text = srnet_card(RECORD)
    assert "{" not in text
    for words in (
        "1,234 pairs of frames",
        "gyroid, seen",
        "learning rate 0.001, linearly up over 5% of the steps, down to 0 along a cosine",
        "norm 5;",
        "3,000 steps on 16×16 pixels, then 7 steps on 32×32 pixels",
        "from random weights;",
        "Seed 3; 1 × cpu, jax 0, 2 minutes, 2026-01-01.",
        "training data\n(0.812)",
        "56 pairs of fields",
        "| **all held-out cameras** | 10.000 / 11.000 | 10.125 / 11.125 | 10.2° / 11.2° | 10.4° / 11.4° | ",
        " | 10.4° / 11.4° | 10.5000 / 11.5000 | 10.6250 / 11.6250 |\n",
        "| seen | 20.000 / 21.000 |",
        "| **all held-out fields** | 30.000 / 31.000 |",
        "| unseen | 40.000 / 41.000 |",
    ):
        assert words in text, words
    other = srnet_card(RECORD | {"halve_every": 100, "warmup": 0.0, "started_from": "first.safetensors"})
    assert "learning rate 0.001, halved every 100 epochs," in other
    assert "from first.safetensors;" in other


def test_the_card_of_a_densenet_of_all_classes():
    record = {
        "accuracy": 0.93456,
        "accuracy_of_seen_classes": 0.93456,
        "accuracy_by_class": {"cat": 0.5},
        "without_class": [],
        "test_images": 10_000,
        "training_images": 50_000,
        "pool": "max",
        "classifier_spectrum": [1.0, 0.25, 3e-8],
        "schedule": [[32, 1.5]],
        "batch_size": 64,
        "peak": 0.1,
        "warmup": 0.15,
        "final": 0.01,
        "weight_decay": 5e-4,
        "seed": 0,
        "started_from": "first.safetensors",
        "device": "1 × cpu",
        "jax": "0",
        "seconds": 90,
        "date": "2026-01-01",
    }
    card = densenet_card(record)
    assert "without" not in card
    assert "seen" not in card
    assert "{" not in card
    for words in (
        "# DenseNet-BC(100, 12), CIFAR-10\n",
        "Accuracy: **93.5%** of 10,000 test images",
        "σ₁₀/σ₁ = 3.0e-08, σ₉/σ₁ = 0.25",
        "50,000 training images as JPEG.\n",
        "from first.safetensors;",
        "rising linearly to 0.1 over 15% of the steps and falling to 0.001;",
        "crops; 1.5 epochs at 32×32.",
        "2 minutes, 2026-01-01",
    ):
        assert words in card
