"""A record of a training of SRNet, as `jifv.models.training.srnet` writes it."""


def numbers(start):
    keys = ("mask", "normal", "angle", "interior_angle", "depth", "occlusion")
    return {
        "ours": {key: start + index / 8 for index, key in enumerate(keys)},
        "bilinear": {key: start + 1 + index / 8 for index, key in enumerate(keys)},
    }


RECORD = {
    "median_occlusion": 0.8125,
    "cameras": {"all": numbers(10.0), "seen": numbers(20.0)},
    "fields": {"all": numbers(30.0), "unseen": numbers(40.0)},
    "trained_on": ["gyroid", "seen"],
    "training_pairs": 1234,
    "test_pairs": 56,
    "schedule": [[16, 3000], [32, 7]],
    "batch_size": 16,
    "peak": 1e-3,
    "warmup": 0.05,
    "halve_every": None,
    "clip": 5.0,
    "seed": 3,
    "started_from": None,
    "device": "1 × cpu",
    "jax": "0",
    "seconds": 90,
    "date": "2026-01-01",
}
