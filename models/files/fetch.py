"""Download public weights, check their hash, convert them, and keep the result in the cache folder."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import pooch
import requests

from jifv._core.files import naming
from jifv._core.progress import bar
from jifv.models.files import cache
from jifv.models.files.convert import convert

_MEBIBYTE = 2**20


class _Download(NamedTuple):
    """A public file: its URL, the first digits of its sha256 (all that the publisher tells), and its maximum size."""

    url: str
    sha256: str
    most_bytes: int


_DOWNLOADS = {
    "googlenet": _Download("https://download.pytorch.org/models/googlenet-1378be20.pth", "1378be20", 64 * _MEBIBYTE),
}


def fetch(name: str, *, url: str | None = None, progress: bool = True) -> Path:
    """Download a network's public weights and convert them to the cache folder.

    The next call resumes a download that broke off. torchvision publishes the first eight digits of the sha256 in the
    file's name. They are checked before the file is read; the full hash goes into the metadata.

    Args:
        name: `"googlenet"`.
        url: Another place to get the same file from.
        progress: Whether to show a progress bar.

    Returns:
        The converted file, which `load(name)` finds. The download itself is removed.

    Raises:
        ValueError: If the name is unknown, or the file is not the published one.
        OSError: If the file cannot be downloaded; the message says how to do it by hand.
    """
    if name not in _DOWNLOADS:
        raise ValueError(f"name must be one of {', '.join(_DOWNLOADS)}, got {name!r}")
    published = _DOWNLOADS[name]
    file = published.url.rpartition("/")[2]
    folder = cache.folder() / "downloads"
    partial = folder / f"{file}.part"
    url = url or published.url

    def download(url: str, output_file: str, _) -> None:
        _resume(url, partial, published.most_bytes, progress)
        partial.replace(output_file)

    pooch.get_logger().setLevel("WARNING")  # or it recommends passing the full hash, which nobody publishes
    try:
        # pooch's type of a downloader has other names for its arguments than pooch passes.
        path = Path(pooch.retrieve(url, None, fname=file, path=folder, downloader=download))  # pyright: ignore[reportArgumentType]
    except OSError as error:
        kept = "; the part that arrived is kept, call again for the rest" if partial.is_file() else ""
        raise OSError(
            f"cannot download {url}: {error}{kept}. By hand: download {published.url} and run "
            f"`jifv models convert {name} --from {file}`, which writes {cache.cached(name)}"
        ) from error
    try:
        _check(path, url, published.sha256)
        converted = convert(path)
    finally:
        path.unlink()
    return cache.store(converted._replace(metadata={**converted.metadata, "url": url}))


def _resume(url: str, partial: Path, most_bytes: int, progress: bool) -> None:
    """Download the missing part of a file.

    There is no `If-Range` header: the final check of the hash proves more than the server's word that nothing changed.
    """
    start = partial.stat().st_size if partial.is_file() else 0
    _check_size(url, partial, start, most_bytes)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with requests.get(url, headers=headers, stream=True, timeout=30) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # the file is complete
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:
            start = 0
        missing = response.headers.get("Content-Length", "")
        size = start + int(missing) if missing.isdecimal() else None
        _check_size(url, partial, size or 0, most_bytes)
        came = start
        with (
            naming(partial),
            partial.open("ab" if start else "wb") as file,
            bar(f"{partial.stem}, MiB", -(-(size or 0) // _MEBIBYTE), progress) as advance,
        ):
            advance(start // _MEBIBYTE)
            for chunk in response.iter_content(_MEBIBYTE):
                came += len(chunk)
                _check_size(url, partial, came, most_bytes)
                file.write(chunk)
                advance(1)
    if size is not None and partial.stat().st_size < size:
        raise OSError(f"the connection was closed after {partial.stat().st_size} of {size} bytes")


def _check_size(url: str, partial: Path, size: int, most_bytes: int) -> None:
    """Raise if a download is, or will be, larger than the published file can be, and remove what arrived."""
    if size > most_bytes:
        partial.unlink(missing_ok=True)
        raise ValueError(f"{url} has another file: it must have at most {most_bytes:,} bytes, got {size:,}")


def _check(path: Path, url: str, expected: str) -> None:
    with path.open("rb") as file:
        head = file.read(64).lstrip().lower()
        file.seek(0)
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(expected):
        page = ", and it is a web page" if head.startswith((b"<!doctype html", b"<html")) else ""
        raise ValueError(
            f"{url} has another file: its sha256 must begin with {expected}, got {found}{page}; removed it"
        )
