"""Fetch a file over the network: written aside, checked, then renamed."""

import shutil
import urllib.request
import zipfile
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

from dfwe.errors import UserError
from dfwe.pipeline.files import file_digest, written_aside

NETWORK = (URLError, HTTPException, TimeoutError, ConnectionError)


def fetch(url: str, path: Path, size: int | None = None, sha256: str | None = None) -> Path:
    """Fetch `url` into `path` (a folder, or the file itself if it ends in .zip).

    Args:
        size: bytes the file must have; sha256: its digest in hex; None checks nothing.

    Raises:
        UserError: no network, or the file is not the one expected.
    """
    target = path if path.suffix == ".zip" else path / "TLiDB_Friends.zip"
    target.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(target) as temporary:
        _download(url, temporary)
        _check(url, temporary, size, sha256)
    return target


def _download(url: str, temporary: Path) -> None:
    try:
        with urllib.request.urlopen(url, timeout=30) as response, temporary.open("wb") as file:
            shutil.copyfileobj(response, file)
    except (*NETWORK, ValueError) as error:
        raise UserError(
            f"{url} could not be fetched ({error}); fetch it where there is a network and point "
            "DFWE_DATA at the file."
        ) from None


def _check(url: str, temporary: Path, size: int | None, sha256: str | None) -> None:
    fetched = temporary.stat().st_size
    if size is not None and fetched != size:
        raise UserError(
            f"{url} gave {fetched} bytes where {size} were expected; nothing was kept."
        )
    if sha256 is not None and file_digest(temporary) != sha256:
        raise UserError(f"{url} gave a file with another sha256 than {sha256}; nothing was kept.")
    if not zipfile.is_zipfile(temporary):
        raise UserError(
            f"{url} gave no whole zip; open it in a browser, save the file and point DFWE_DATA "
            "at it."
        )
