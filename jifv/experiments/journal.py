"""The journal of a store: which run it is, and which batches are finished.

It is an attribute of the store's root group, in `zarr.json`, where Zarr stumbles over nothing. It has a checksum of its
own, and is taken for somebody else's until every part of it has the type that it must have.
"""

import json
import re
import zlib
from pathlib import Path
from typing import Any

from jifv._core.check import check_positive
from jifv._core.files import replace_durably

FILE = "zarr.json"
NAME = re.compile(r"[A-Za-z0-9_-]+")
"""Names of stages and arrays, which are folders."""

_KEY, _FORMAT = "jifv", 2
_ENTRY = {
    "batch": int,
    "checksums": {str: int},
    "seconds": {str: int | float},
    "devices": int,
    "commit": str | None,
    "compiled": bool,
    "at": int | float,
}
_STAGE = {"arrays": {str: {"dtype": str, "shape": [int]}}, "batches": [_ENTRY]}
_FORM = {"identity": dict, "samples": int, "batch_size": int, "stages": {str: _STAGE}}


def new(identity: dict[str, Any], samples: int, batch_size: int) -> dict[str, Any]:
    """Make the journal of a run that has not begun."""
    check_positive("samples", samples)
    check_positive("batch_size", batch_size)
    return {"identity": identity, "samples": samples, "batch_size": batch_size, "stages": {}}


def write(folder: Path, journal: dict[str, Any]) -> None:
    """Replace the journal in one step. Other attributes that somebody gave the group stay."""
    file = folder / FILE
    others = json.loads(file.read_bytes())["attributes"] if file.exists() else {}
    kept = {"format": _FORMAT, "checksum": checksum(journal), "journal": journal}
    document = {"zarr_format": 3, "node_type": "group", "attributes": others | {_KEY: kept}}
    replace_durably(file, json.dumps(document, indent=1))


def read(folder: Path) -> dict[str, Any]:
    """Read a journal.

    Raises:
        ValueError: There is none, or it is damaged, of another format, or no journal at all.
    """
    file = folder / FILE
    try:
        document = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{folder} holds no run: there is no {file}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged: {error}") from error
    attributes = document.get("attributes") if isinstance(document, dict) else None
    kept: Any = attributes.get(_KEY) if isinstance(attributes, dict) else None
    if not _fits(kept, {"format": int, "checksum": int, "journal": dict}):
        raise ValueError(f"{file} is not the journal of a run")
    if kept["format"] != _FORMAT:
        raise ValueError(f"{file} must have the format {_FORMAT} of this jifv, got {kept['format']}")
    journal = kept["journal"]
    if checksum(journal) != kept["checksum"]:
        raise ValueError(f"{file} is damaged: it does not have the checksum that it says")
    if not _fits(journal, _FORM) or not all(
        _sound(stage, known, journal) for stage, known in journal["stages"].items()
    ):
        raise ValueError(f"{file} is not the journal of a run: a part of it has the wrong type")
    return journal


def read_same(folder: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """Read a journal, and check that it belongs to the wanted run.

    Raises:
        ValueError: As `read`, or it belongs to another run; the message says what differs.
    """
    found = read(folder)
    sizes = [{name: each[name] for name in ("samples", "batch_size")} for each in (found, wanted)]
    lines = differences(found["identity"], wanted["identity"]) or differences(sizes[0], sizes[1])
    if lines:
        what = "; ".join(lines)
        raise ValueError(f"{folder} holds another run: {what}. Choose another folder, or overwrite this one")
    return found


def checksum(journal: dict[str, Any]) -> int:
    """Compute the CRC-32 of a journal, independent of its layout."""
    return zlib.crc32(json.dumps(journal, sort_keys=True).encode())


def differences(found: Any, wanted: Any, name: str = "") -> list[str]:
    """Say in words how two trees of JSON differ."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        prefix = f"{name}." if name else ""
        return [
            line
            for key in found | wanted
            for line in differences(found.get(key, "not there"), wanted.get(key, "not there"), f"{prefix}{key}")
        ]
    return [] if found == wanted else [f"{name} is {found}, not {wanted}"]


def _fits(value: Any, form: Any) -> bool:
    """Tell whether JSON has a form: a type, a list or an object of one form, or an object with certain keys."""
    if isinstance(form, list):
        return isinstance(value, list) and all(_fits(each, form[0]) for each in value)
    if isinstance(form, dict):
        if not isinstance(value, dict):
            return False
        forms = dict.fromkeys(value, form[str]) if str in form else form
        return forms.keys() <= value.keys() and all(_fits(value[key], each) for key, each in forms.items())
    return isinstance(value, form) and (form is bool or not isinstance(value, bool))


def _sound(stage: str, known: dict[str, Any], journal: dict[str, Any]) -> bool:
    """Tell whether the names of a stage are safe as paths, and its numbers possible."""
    arrays, entries = known["arrays"], known["batches"]
    batches = [entry["batch"] for entry in entries]
    return (
        journal["samples"] > 0 < journal["batch_size"]
        and all(NAME.fullmatch(name) for name in (stage, *arrays))
        and all(re.fullmatch(r"[<|][biufc][0-9]{1,2}", form["dtype"]) for form in arrays.values())
        and all(size >= 0 for form in arrays.values() for size in form["shape"])
        and all(entry["checksums"].keys() == arrays.keys() for entry in entries)
        and len(set(batches)) == len(batches)
        and all(0 <= batch * journal["batch_size"] < journal["samples"] for batch in batches)
    )
