"""Fetch a file over the network: written aside, checked, then renamed."""

import shutil
import urllib.error
import urllib.request
from pathlib import Path

from dfwe.errors import UserError
from dfwe.store import file_digest


def fetch(url: str, path: Path, size: int | None = None, sha256: str | None = None) -> Path:
    """Fetch `url` into `path` (a folder, or the file itself if it ends in .zip).

    Args:
        size: bytes the file must have; sha256: its digest in hex; None checks nothing.

    Raises:
        UserError: no network, or the file is not the one expected.
    """
    target = path if path.suffix == ".zip" else path / "TLiDB_Friends.zip"
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(target.name + ".part")
    try:
        with urllib.request.urlopen(url, timeout=30) as response, aside.open("wb") as file:
            shutil.copyfileobj(response, file)
    except (urllib.error.URLError, TimeoutError, ValueError) as error:
        raise UserError(
            f"{url} could not be fetched ({error}); fetch it where there is a network and point "
            "DFWE_DATA at the file."
        ) from None
    found = aside.stat().st_size
    if size is not None and found != size:
        aside.unlink()
        raise UserError(f"{url} gave {found} bytes where {size} were expected; nothing was kept.")
    if sha256 is not None and file_digest(aside) != sha256:
        aside.unlink()
        raise UserError(f"{url} gave a file with another sha256 than {sha256}; nothing was kept.")
    aside.replace(target)
    return target
