"""The one atomic writer: a file is replaced only once its content has reached the disk."""

import os
from pathlib import Path


def replace_durably(path: Path, content: bytes | str) -> None:
    """Write beside the file, then rename: whoever reads finds the old file or the new one, never half of it."""
    beside = path.with_name(f"{path.name}.partial")
    beside.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(beside, path)
