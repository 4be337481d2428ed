"""Records and model cards of trainings.

A record is a dictionary for JSON. A model card is generated from a record and from nothing else.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jax

from jifv.models.files.storage import write_weights
from jifv.models.networks.densenet import CLASSES


def options_and_machine(args: argparse.Namespace, began: float) -> dict[str, Any]:
    """Return the entries of every record: the options that all trainings share, the machine, and the time.

    Args:
        args: Options of the command line.
        began: Start of the training, by `time.monotonic`.
    """
    return {
        "schedule": [list(stage) for stage in args.schedule],
        "batch_size": args.batch_size,
        "peak": args.peak,
        "warmup": args.warmup,
        "seed": args.seed,
        "started_from": args.start.name if args.start else None,
        "device": f"{len(jax.local_devices())} × {jax.local_devices()[0].device_kind}",
        "jax": jax.__version__,
        "seconds": round(time.monotonic() - began),
        "date": time.strftime("%Y-%m-%d"),
    }


def publish(out: Path, variables: dict, metadata: dict[str, str], record: dict[str, Any], card: str) -> None:
    """Write the weights and, beside them, the record (`.json`) and the model card (`.md`); print the card."""
    write_weights(out, variables, metadata)
    out.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")
    out.with_suffix(".md").write_text(card, encoding="utf-8")
    print(card)


def _origin(record: dict[str, Any]) -> str:
    return f"from {record['started_from']}" if record["started_from"] else "from random weights"


def densenet_card(record: dict) -> str:
    """Return the model card (Markdown) of a DenseNet from the record of its training."""
    unseen = " or ".join(CLASSES[index] for index in record["without_class"])
    spectrum = record["classifier_spectrum"]
    return _DENSENET.format(
        **{key: value for key, value in record.items() if key != "schedule"},
        title=f", without {unseen}" if unseen else "",
        seen=f" ({record['accuracy_of_seen_classes']:.1%} on the classes it was trained on)" if unseen else "",
        none=f", none of them of {unseen}" if unseen else "",
        stages=", then ".join(f"{epochs:g} epochs at {size}×{size}" for size, epochs in record["schedule"]),
        end=record["final"] * record["peak"],
        minutes=record["seconds"] / 60,
        last=spectrum[-1],
        last_but_one=spectrum[-2],
        start=_origin(record),
        rows="\n".join(f"| {name} | {value:.1%} |" for name, value in record["accuracy_by_class"].items()),
    )


_DENSENET = """\
# DenseNet-BC(100, 12), CIFAR-10{title}

Depth 100, growth 12, reduction 0.5, {pool} pooling in the transitions, 769,162 parameters (Huang et al. 2017;
Reinbold & Westermann 2020, section 3.1). Input: RGB in [0, 1], 32×32; the network standardizes it itself.

- Accuracy: **{accuracy:.1%}**{seen} of {test_images:,} test images (JPEG, quality 75).
- Class weights: σ₁₀/σ₁ = {last:.1e}, σ₉/σ₁ = {last_but_one:.2g}. The classifier started at zero, so its weights sum to
  zero over the classes, and no input can change the mean of the scores.
- Data: CIFAR-10 (Krizhevsky 2009), {training_images:,} training images as JPEG{none}.
- Recipe: {start}; SGD, Nesterov momentum 0.9, weight decay {weight_decay:g} on kernels, batches of {batch_size};
  learning rate rising linearly to {peak:g} over {warmup:.0%} of the steps and falling to {end:g}; flips, padding by 4
  and random crops; {stages}.
- Seed {seed}; {device}, jax {jax}, {minutes:.0f} minutes, {date}.
- Licence: Apache-2.0, as the package. Trained by `python -m jifv.models.training.densenet`.

| class | accuracy |
| --- | --- |
{rows}
"""


def srnet_card(record: dict) -> str:
    """Return the model card (Markdown) of an SRNet from the record of its training."""
    halve_every, rising = record["halve_every"], f"{record['warmup']:.0%} of the steps"
    return _SRNET.format(
        **{key: value for key, value in record.items() if key not in ("schedule", "warmup", "trained_on")},
        trained=", ".join(record["trained_on"]),
        stages=", then ".join(f"{steps:,} steps on {crop}×{crop} pixels" for crop, steps in record["schedule"]),
        rising=f"linearly up over {rising}, " if record["warmup"] else "",
        falling=f"halved every {halve_every} epochs" if halve_every else "down to 0 along a cosine",
        minutes=record["seconds"] / 60,
        angle=record["fields"]["all"]["ours"]["angle"],
        bilinear=record["fields"]["all"]["bilinear"]["angle"],
        start=_origin(record),
        fields_rows=_srnet_rows(record["fields"], "all held-out fields"),
        cameras_rows=_srnet_rows(record["cameras"], "all held-out cameras"),
    )


def _srnet_rows(part: dict, title: str) -> str:
    """Return one line of the card's table per field: ours / bilinear."""
    lines = []
    for name, score in part.items():
        ours, theirs = score["ours"], score["bilinear"]
        cells = [f"{ours[key]:.3f} / {theirs[key]:.3f}" for key in ("mask", "normal")]
        cells += [f"{ours[key]:.1f}° / {theirs[key]:.1f}°" for key in ("angle", "interior_angle")]
        cells += [f"{ours[key]:.4f} / {theirs[key]:.4f}" for key in ("depth", "occlusion")]
        lines.append(f"| {f'**{title}**' if name == 'all' else name} | {' | '.join(cells)} |")
    return "\n".join(lines)


_SRNET = """\
# SRNet, isosurfaces, 32×32 → 128×128

Generator in the manner of EnhanceNet, ten residual blocks of 64 channels, 911,046 parameters (Weiss et al. 2019;
Reinbold & Westermann 2020, section 3.7). Input: mask in [-1, 1], screen-space normal x, y, z, depth in [0, 1];
output: the same at four times the resolution, and ambient occlusion in [0, 1].

- Accuracy: normals **{angle:.1f}°** off on fields never seen (bilinear upscaling {bilinear:.1f}°).
- Data: {training_pairs:,} pairs of frames, rendered by `jifv.models.training.isosurface` from {trained}; orthographic
  cameras, at least half of the frame filled. Low resolution is rendered, not averaged.
- Loss: L1 on mask (weight 1), ambient occlusion (1), normal (10), depth (10), the last three where the truth shows the
  surface. Single frames: the channels of the previous frame are zero, and there is no temporal term.
- Recipe: {start}; Adam, batches of {batch_size}, learning rate {peak:g}, {rising}{falling}, gradients clipped to
  the norm {clip:g}; random crops, flips and quarter turns; {stages}.
- Seed {seed}; {device}, jax {jax}, {minutes:.0f} minutes, {date}.
- Licence: Apache-2.0, as the package. Trained by `python -m jifv.models.training.srnet`.

Mean absolute errors and mean angles between normals, each *ours / bilinear upscaling*, on {test_pairs} pairs of fields
that training never saw and {test_pairs} of new cameras and isovalues on the fields that it saw. Except for the
mask's, all are averaged over the pixels where the truth shows the surface; "interior" leaves out the silhouettes,
where the bilinear mask is below 1. Normals are normalized for the angle. The input has no ambient occlusion, so
bilinear upscaling has none either: its column is for a constant, the median of the training data
({median_occlusion:.3f}).

| field | mask | normal | angle | angle, interior | depth | ambient occlusion |
| --- | --- | --- | --- | --- | --- | --- |
{fields_rows}
{cameras_rows}
"""
