"""What visualizing, inverting and auditing pictures leaves behind: PNG, `results.csv`, `results.json`, a page."""

import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from jifv._core.files import replace_durably
from jifv._core.provenance import provenance
from jifv.audit import Audit
from jifv.experiments.options import BY_NAME
from jifv.experiments.pictures.judging import strongest
from jifv.experiments.pictures.legend import AT_RANDOM, AUDITED, INVERTED, ON_SPACE, REOPTIMIZED, VISUALIZED
from jifv.experiments.pictures.results import Audited, Inverted, Visualized, counted
from jifv.experiments.report import embed
from jifv.experiments.report.picture import picture
from jifv.experiments.report.tables import csv_text
from jifv.experiments.setting import Setting
from jifv.visualization import Settings

TOP = 10
"""Features that are listed of each objective."""

_ENTRIES = 8  # bars on the page
_LARGE = 224  # pixels, where there is one image in a card
_MOST = 1000  # pictures on a page
_DRAWN = 24  # figures on a page
_FULL = 300  # of full quality; more get coarser, so that the page does not grow


def write_visualized(made: Visualized, folder: Path, settings: Settings) -> None:
    """Write a PNG for each objective, `results.csv`, `results.json` and `report.html`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, name in enumerate(made.names):
        file = f"{index:0{len(str(len(made.names) - 1))}}-{re.sub('[^A-Za-z0-9_-]+', '-', name)[:60]}.png"
        write_png(folder / file, made.images[index])
        numbers = {key: getattr(made, key)[index] for key in ("value", "cosine", "on_floor", "finite")}
        rows.append({"picture": file, "objective": name, **numbers} | _columns("response", made.response[index], made))
    facts = _facts(made.setting) + [(BY_NAME[name].label, BY_NAME[name].text(value)) for name, value in _of(settings)]
    _write(folder, rows, {"setting": asdict(made.setting), "settings": asdict(settings)})
    unit = _unit(made.response)
    cards = [
        {
            "title": name,
            "kind": "",
            "verdict": "" if made.finite[index] else "not finite",
            "speaks": bool(made.finite[index] and not made.on_floor[index]),
            "notes": ["on the cosine's floor"] if made.on_floor[index] else [],
            "size": made.images.shape[1:3],
            "images": [["visualization", embed.encoded(made.images[index], side=_LARGE)]],
            "numbers": [["d", _short(made.value[index])], ["cos(r, v)", _short(made.cosine[index])]],
            "sort": embed.numbers(np.array([made.value[index], made.cosine[index]])),
            **_bars({"target": made.objectives[index], "response": unit[index]}),
        }
        for index, name in enumerate(made.names[:_MOST])
    ]
    title = f"{made.setting.network}, {made.setting.layer}: {counted(len(made.names), 'visualization')}"
    _page(folder, title, facts, made, cards, ["value d", "cos(r, v)"], ["target", "response"], VISUALIZED)


def write_inverted(
    found: Inverted,
    folder: Path,
    image: Callable[[int], Float[np.ndarray, "h w c"]],
    reoptimized: Callable[[int], Sequence[Float[np.ndarray, "h w c"]]],
    origin: Setting | None = None,
) -> None:
    """Write `results.csv`, `results.json` and `report.html`.

    Args:
        found: What was found.
        folder: Where to.
        image: Returns a picture by its index.
        reoptimized: Returns what became of it by re-optimization for prediction and response; none if it was not done.
        origin: In which the pictures were visualized, if that is known.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, name in enumerate(found.names):
        said = found.verdict(index)
        row = {"picture": name, "verdict": said.kind, "reasons": "; ".join(said.reasons)}
        row |= {key: getattr(found, key)[index] for key in ("gap", "stationarity", "elsewhere", "cosine", "negative")}
        row |= {"dead": int(found.dead[index].sum())}
        row |= {f"weight of {prior}": found.weights[index, j] for j, (prior, _) in enumerate(found.setting.priors)}
        row |= {f"ssim_{which}": values[index] for which, values in (found.ssim or {}).items()}
        rows.append(row | _columns("feature", found.objective[index], found))
    dimension = "Rⁿ" if found.dimension == found.objective.shape[1] else f"dimension {found.dimension}"
    _write(folder, rows, {"setting": asdict(found.setting), "dimension": found.dimension})
    shown = range(min(len(found), _MOST))
    coarseness = max(1.0, len(shown) / _FULL)
    unit, compared = _unit(found.response), bool(np.isfinite(found.elsewhere).any())
    cards = []
    for index in shown:
        said = found.verdict(index)
        at_random = [["at random inputs", _short(found.elsewhere[index])]] if compared else []
        images = [image(index), *reoptimized(index)]
        named = zip(("picture", "for prediction", "for response"), images, strict=False)
        ssim = {which: values[index] for which, values in (found.ssim or {}).items()}
        cards.append(
            {
                "title": found.names[index],
                "kind": said.kind,
                "verdict": said.text(),
                "speaks": said.kind == "optimal",
                "notes": [f"{rows[index]['dead']} dead features"] if rows[index]["dead"] else [],
                "size": images[0].shape[:2],
                "images": [[label, embed.encoded(each, coarseness)] for label, each in named],
                "numbers": [
                    ["gap", _short(found.gap[index])],
                    ["stationarity", _short(found.stationarity[index])],
                    *at_random,
                    ["cos(r, v)", _short(found.cosine[index])],
                    ["negative", _short(found.negative[index])],
                    *[[f"SSIM, {which}", _short(value)] for which, value in ssim.items()],
                ],
                "sort": embed.numbers(
                    np.array([found.stationarity[index], found.gap[index], found.cosine[index]], float)
                ),
                **_bars({"prediction": found.objective[index], "response": unit[index]}),
            }
        )
    title = f"{found.setting.network}, {found.setting.layer}: {counted(len(found), 'picture')} inverted"
    if len(found) > _MOST:
        title += f", the first {_MOST}"
    facts = [*_facts(found.setting), ("critical space V", dimension)]
    if origin is not None:
        facts.insert(0, ("visualized in", f"{origin.network}, {origin.layer}"))
    keys = ["stationarity", "gap", "cos(r, v)"]
    terms = INVERTED | (AT_RANDOM if compared else {})
    terms |= (REOPTIMIZED if found.ssim else {}) | (ON_SPACE if dimension != "Rⁿ" else {})
    _page(folder, title, facts, found, cards, keys, ["prediction", "response"], terms)


def write_audited(found: Audited, folder: Path, image: Callable[[int], Float[np.ndarray, "h w c"]]) -> None:
    """Write `results.csv`, `results.json` and `report.html`, with a figure for each of the first claims.

    Args:
        found: What was found.
        folder: Where to.
        image: Returns a picture by its index.
    """
    # Matplotlib is slow to import, and `jifv --help` need not wait for it.
    from jifv.experiments.report import figures, figures_audit

    folder.mkdir(parents=True, exist_ok=True)
    rows, cards, drawn = [], [], []
    unit = _unit(found.response)
    for index, name in enumerate(found.names):
        shown = image(index) if len(cards) < _MOST else None
        for which, claim in enumerate(found.claims):
            said, others = found.judgement(index, which), found.others[index, which]
            audit = Audit(*(getattr(found, field)[index, which] for field in Audit._fields))
            least = np.nanmin(others) if np.isfinite(others).any() else np.nan
            numbers = {"stationarity": audit.stationarity, "p": audit.p_value, "least of others": least}
            numbers |= {"on dead features": audit.on_dead}
            rows.append({"picture": name, "claim": claim, "verdict": said.kind, "reasons": "; ".join(said.reasons)})
            rows[-1] |= numbers
            if shown is not None and len(cards) < _MOST:
                cards.append(
                    {
                        "title": name,
                        "kind": said.kind,
                        "verdict": said.text(),
                        "speaks": said.kind == "stands",
                        "notes": [],
                        "size": shown.shape[:2],
                        "images": [["picture", embed.encoded(shown)]],
                        "numbers": [[label, _short(number)] for label, number in numbers.items()],
                        "sort": embed.numbers(np.array([audit.stationarity, audit.p_value], float)),
                        **_bars({"claim": found.goals[which], "response": unit[index]}),
                    }
                )
            if len(drawn) < _DRAWN and np.isfinite(audit.stationarity):
                drawn.append((f"{name}: {claim}", figures.svg(figures_audit.claim(audit, len(found.feature_names)))))
    _write(folder, rows, {"setting": asdict(found.setting)})
    title = f"{found.setting.network}, {found.setting.layer}: {counted(len(rows), 'claim')} audited"
    facts = _facts(found.setting)
    _page(folder, title, facts, found, cards, ["stationarity", "p"], ["claim", "response"], AUDITED, drawn)


def write_png(path: Path, image: Float[np.ndarray, "h w c"]) -> None:
    """Write an image, or the normals of a frame, with eight bits per channel."""
    file = io.BytesIO()
    Image.fromarray(np.round(picture(image) * 255).astype(np.uint8)).save(file, "PNG")
    replace_durably(path, file.getvalue())


def _write(folder: Path, rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> None:
    plain = [{name: _plain(value) for name, value in row.items()} for row in rows]
    replace_durably(folder / "results.csv", csv_text(plain))
    document = {**about, "version": provenance().version, "pictures": plain}
    replace_durably(folder / "results.json", json.dumps(document, indent=1, allow_nan=False) + "\n")


def _columns(label: str, vector: Float[np.ndarray, " n"], of: Inverted | Visualized) -> dict[str, Any]:
    """List the largest entries of a vector by size: two columns for each."""
    largest = strongest(vector, of.feature_names, TOP)
    names = {f"{label}_{rank}": name for rank, (name, _) in enumerate(largest, 1)}
    entries = {f"entry_{rank}": entry for rank, (_, entry) in enumerate(largest, 1)}
    empty: dict[str, Any] = {}
    for rank in range(1, min(TOP, len(vector)) + 1):
        empty |= {f"{label}_{rank}": None, f"entry_{rank}": None}
    return empty | names | entries


def _page(
    folder: Path,
    title: str,
    facts: Sequence[tuple[str, str]],
    of: Inverted | Visualized | Audited,
    cards: Sequence[Mapping[str, Any]],
    keys: Sequence[str],
    series: Sequence[str],
    terms: Mapping[str, str],
    drawn: Sequence[tuple[str, str]] = (),
) -> None:
    largest = max(of.feature_names, key=len, default="")
    data = {
        "title": title,
        "facts": facts,
        "tables": [],
        "figures": drawn,
        "features": of.feature_names if len(largest) < 200 else [name[:200] for name in of.feature_names],
        "entries": _ENTRIES,
        "series": series,
        "keys": keys,
        "terms": list(terms.items()),
        "cards": cards,
    }
    replace_durably(folder / "report.html", lambda path: embed.write(path, "pictures.html", data))


def _bars(vectors: Mapping[str, Float[np.ndarray, " n"]]) -> dict[str, Any]:
    """List the features with the largest entries of any vector, and the entries; in the order of the first vector."""
    first = next(iter(vectors.values()))
    weight = np.max([np.abs(np.nan_to_num(vector)) for vector in vectors.values()], axis=0)
    chosen = np.sort(np.argsort(-weight, kind="stable")[:_ENTRIES])
    chosen = chosen[np.argsort(-np.nan_to_num(first[chosen]), kind="stable")]
    drawn = {name: embed.numbers(vector[chosen], digits=3) for name, vector in vectors.items()}
    numbers = [value for values in drawn.values() for value in values if value is not None]
    return {"entries": chosen.tolist(), "vectors": drawn, "scale": [min(0.0, *numbers, 0.0), max(0.01, *numbers, 0.01)]}


def _facts(setting: Setting) -> list[tuple[str, str]]:
    """Describe a setting by the labels of the options."""
    values = {**asdict(setting), **asdict(setting.significance)}
    facts = [
        (BY_NAME[name].label, BY_NAME[name].text(value))
        for name, value in values.items()
        if name in BY_NAME and name not in ("std", "critical_samples")
    ]
    if setting.priors:
        facts.append(("priors", ", ".join(f"{name.replace('_', ' ')} {weight:g}" for name, weight in setting.priors)))
    if setting.transformations:
        facts.append(("transformations", f"{setting.draws} of {setting.transformations}"))
    return facts


def _of(settings: Settings) -> Iterable[tuple[str, Any]]:
    return [(name, getattr(settings, name)) for name in ("adam_steps", "lbfgs_steps", "anneal")]


def _unit(rows: Float[np.ndarray, "s n"]) -> Float[np.ndarray, "s n"]:
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(length > 0, length, 1)


def _plain(value: Any) -> Any:
    """Make a value of JSON and CSV: six digits, None for what is not finite."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value


def _short(value: float | np.floating) -> str:
    return f"{value:.3g}".replace("-", "−") if np.isfinite(value) else "–"
