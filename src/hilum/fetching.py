"""Data sets from the net, when a user asks for one by name; nothing else here reaches out.

`medmnist:NAME[@SIZE]` comes from the archive of MedMNIST on Zenodo and is kept only when its
checksum is the published one. `kaggle:OWNER/DATASET` comes through kagglehub, with the user's own
Kaggle credentials where the data set asks for them.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import re
import secrets
import shutil
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import IO

from hilum.errors import DataError, HilumError, MissingExtraError, SettingError, did_you_mean
from hilum.files import writing
from hilum.progress import LogProgress, Progress

MEDMNIST_URL = "https://zenodo.org/records/10519652/files"
MEDMNIST_SIZES = (28, 64, 128, 224)
MEDMNIST_MD5 = {
    "pathmnist": (
        "a8b06965200029087d5bd730944a56c1",
        "55aa9c1e0525abe5a6b9d8343a507616",
        "ac42d08fb904d92c244187169d1fd1d9",
        "2c51a510bcdc9cf8ddb2af93af1eadec",
    ),
    "chestmnist": (
        "02c8a6516a18b556561a56cbdd36c4a8",
        "9de6cd0b934ebb5b7426cfba5efbae16",
        "db107e5590b27930b62dbaf558aebee3",
        "45bd33e6f06c3e8cdb481c74a89152aa",
    ),
    "dermamnist": (
        "0744692d530f8e62ec473284d019b0c7",
        "b70a2f5635c6199aeaa28c31d7202e1f",
        "2defd784463fa5243564e855ed717de1",
        "8974907d8e169bef5f5b96bc506ae45d",
    ),
    "octmnist": (
        "c68d92d5b585d8d81f7112f81e2d0842",
        "e229e9440236b774d9f0dfef9d07bdaf",
        "0a97e76651ace45c5d943ee3f65b63ae",
        "abc493b6d529d5de7569faaef2773ba3",
    ),
    "pneumoniamnist": (
        "28209eda62fecd6e6a2d98b1501bb15f",
        "8f4eceb4ccffa70c672198ea285246c6",
        "05b46931834c231683c68f40c47b2971",
        "d6a3c71de1b945ea11211b03746c1fe1",
    ),
    "retinamnist": (
        "bd4c0672f1bba3e3a89f0e4e876791e4",
        "afda852cc34dcda56f86ad2b2457dbcc",
        "e48e916a24454daf90583d4e6efb1a18",
        "eae7e3b6f3fcbda4ae613ebdcbe35348",
    ),
    "breastmnist": (
        "750601b1f35ba3300ea97c75c52ff8f6",
        "742edef2a1fd1524b2efff4bd7ba9364",
        "363e4b3f8d712e9b5de15470a2aaadf1",
        "b56378a6eefa9fed602bb16d192d4c8b",
    ),
    "bloodmnist": (
        "7053d0359d879ad8a5505303e11de1dc",
        "2b94928a2ae4916078ca51e05b6b800b",
        "adace1e0ed228fccda1f39692059dd4c",
        "b718ff6835fcbdb22ba9eacccd7b2601",
    ),
    "tissuemnist": (
        "ebe78ee8b05294063de985d821c1c34b",
        "123ece2eba09d0aa5d698fda57103344",
        "61b955355d7425a89687b06cca3ce0c2",
        "b077128c4a949f0a4eb01517f9037b9c",
    ),
    "organamnist": (
        "68e3f8846a6bd62f0c9bf841c0d9eacc",
        "2dcccc29b88e6da5a01161ef20cda288",
        "eeae80d0a227a8d099027e1b3cfd3b60",
        "50747347e05c87dd3aaf92c49f9f3170",
    ),
    "organcmnist": (
        "b9ceb9546e10131b32923c5bbeaea2b1",
        "3ce34a8724ea6f548e6db4744d03b6a9",
        "773c1f009daa3fe5d9a2a201b2a7ed94",
        "050f5e875dc056f6768abf94ec9995d1",
    ),
    "organsmnist": (
        "9ab87b696fb54e2a387ebe992d6ed5f1",
        "53a6d115339d874c25e309a994ff46d3",
        "ded0c5fa01a95dc4978b956f613e9b8e",
        "b354719e553fbbb2513d5533f52a4cb1",
    ),
}
"""MD5 of `NAME.npz` and `NAME_64.npz`, `_128`, `_224`, as the medmnist package 3.0.2 publishes
them in `medmnist/info.py`. The sets of volumes are left out: Hilum learns from images."""

KAGGLE_NAME = re.compile(r"[\w-]+/[\w-]+(/versions/\d+)?", re.ASCII)
KAGGLE_EXAMPLE = "kaggle:paultimothymooney/chest-xray-pneumonia"
MAX_BYTES = 20 * 2**30  # the largest of MedMNIST's archives has about 12 GB
TIMEOUT_S = 30.0  # without a single byte
CHUNK_BYTES = 2**18
NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ssl.SSLError,
    ConnectionError,
    TimeoutError,
)


def fetch(
    name: str,
    out: Path,
    *,
    progress: Progress | None = None,
    url: str = MEDMNIST_URL,
    max_bytes: int = MAX_BYTES,
) -> Path:
    """Bring a data set from the net into the folder `out`.

    Parameters
    ----------
    name : str
        'medmnist:NAME', 'medmnist:NAME@SIZE' with a size of 28, 64, 128 or 224, or
        'kaggle:OWNER/DATASET', with '/versions/N' behind it for one version.
    out : Path
        Made where it does not exist. What is there already is checked and kept.
    progress : Progress, optional
    url : str
        Where MedMNIST's files are, for a mirror.
    max_bytes : int
        Largest download to accept from there.

    Returns
    -------
    Path
        What to train on: the NPZ, or the folder with the images.

    Raises
    ------
    SettingError
        If there is no data set of that name.
    DataError
        If the data set cannot be brought, or is not what it should be.
    MissingExtraError
        If kagglehub is wanted and not installed.
    """
    progress = progress or LogProgress()
    source, colon, rest = name.partition(":")
    if colon and source == "medmnist":
        return _fetch_medmnist(rest, out, progress, url, max_bytes)
    if colon and source == "kaggle":
        return _fetch_kaggle(rest, out, progress)
    raise SettingError(_unknown(name))


def _unknown(name: str) -> str:
    known = [f"medmnist:{data_set}" for data_set in MEDMNIST_MD5]
    bare = f"medmnist:{name}" if ":" not in name else name
    return (
        f"There is no data set '{name}' to fetch.{did_you_mean(bare, known)} Give "
        f"medmnist:NAME[@SIZE], where NAME is one of {', '.join(MEDMNIST_MD5)} and SIZE one of "
        f"{', '.join(map(str, MEDMNIST_SIZES))}; or kaggle:OWNER/DATASET."
    )


# -- MedMNIST -----------------------------------------------------------------------------------


def _fetch_medmnist(name: str, out: Path, progress: Progress, url: str, max_bytes: int) -> Path:
    data_set, _, wanted = name.partition("@")
    size = int(wanted) if wanted.isdecimal() else 28 if name == data_set else None
    if data_set not in MEDMNIST_MD5 or size not in MEDMNIST_SIZES:
        raise SettingError(_unknown(f"medmnist:{name}"))
    md5 = MEDMNIST_MD5[data_set][MEDMNIST_SIZES.index(size)]
    file = f"{data_set}.npz" if size == 28 else f"{data_set}_{size}.npz"
    path = out / file
    if path.exists():
        return _keep(path, md5, progress)
    with writing(path) as partial:
        found = _download(f"{url}/{file}?download=1", partial, path, progress, max_bytes)
        if found != md5:
            raise DataError(
                f"{url}/{file} is not the published file: its MD5 is {found}, not {md5}. It was "
                "thrown away. Try again; if this stays so, the file on the server is damaged or "
                "was replaced."
            )
    return path


def _keep(path: Path, md5: str, progress: Progress) -> Path:
    """Accept a file that is there already, if it is the right one."""
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, _md5).hexdigest()
    if found != md5:
        raise DataError(
            f"{path} is there already and is not the published file: its MD5 is {found}, not "
            f"{md5}. Move it away and fetch again, or choose another folder."
        )
    progress.say(f"{path} is there already; its checksum is right.")
    return path


def _md5() -> hashlib._Hash:
    # A checksum against damage; some systems forbid MD5 where it would guard a secret.
    return hashlib.md5(usedforsecurity=False)


def _download(url: str, partial: Path, path: Path, progress: Progress, max_bytes: int) -> str:
    """Stream a file onto the disk and return its MD5."""
    with _opened(url, path) as (response, n_bytes):
        if n_bytes > max_bytes:
            raise DataError(
                f"{url} is {n_bytes:,} bytes large, more than the {max_bytes:,} that are "
                "accepted. Nothing was fetched."
            )
        free = shutil.disk_usage(partial.parent).free
        if n_bytes > free:
            raise DataError(
                f"{path} needs {n_bytes:,} bytes, and {free:,} are free. Free some space or "
                "choose another folder."
            )
        digest, received = _md5(), 0
        with partial.open("wb") as stream, progress.task(f"Fetching {path.name}", n_bytes) as task:
            while chunk := response.read(CHUNK_BYTES):
                received += len(chunk)
                if received > max_bytes:
                    raise DataError(
                        f"{url} sends more than the {max_bytes:,} bytes that are accepted. "
                        "What had come was thrown away."
                    )
                stream.write(chunk)
                digest.update(chunk)
                task.advance(len(chunk))
        if received < n_bytes:
            raise http.client.IncompleteRead(b"", n_bytes - received)
    return digest.hexdigest()


@contextlib.contextmanager
def _opened(url: str, path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """Open an address; give its stream and the length that the server states (0: not stated)."""
    by_hand = f"Or download it with a browser and save it as {path}; it is checked when you retry."
    request = urllib.request.Request(url, headers={"User-Agent": "hilum"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            length = response.headers.get("Content-Length", "")
            yield response, int(length) if length.isdecimal() else 0
    except urllib.error.HTTPError as error:
        error.close()
        raise DataError(
            f"{url} was refused by the server: {error.code} {error.reason}. Try later. {by_hand}"
        ) from None
    except http.client.IncompleteRead:
        raise DataError(
            f"{url} broke off before its end. What had come was thrown away. Try again. {by_hand}"
        ) from None
    except NETWORK_ERRORS as error:
        reason = getattr(error, "reason", "") or error
        raise DataError(
            f"{url} cannot be reached: {reason}. Check the connection and proxy. {by_hand}"
        ) from None


# -- Kaggle -------------------------------------------------------------------------------------


def _fetch_kaggle(name: str, out: Path, progress: Progress) -> Path:
    if not KAGGLE_NAME.fullmatch(name):
        raise SettingError(
            f"'kaggle:{name}' does not name a data set. Give kaggle:OWNER/DATASET as in the "
            f"address of its page, such as {KAGGLE_EXAMPLE}."
        )
    path = out / name.split("/", 1)[1].replace("/versions/", "-v")
    if path.exists():
        progress.say(f"{path} is there already and was kept. Remove it to fetch it anew.")
        return _innermost(path)
    partial = out / f".{path.name}.{secrets.token_hex(4)}.tmp"
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _kagglehub() as kagglehub:
            progress.say(f"Fetching {name} from Kaggle.")
            fetched = _download_from_kaggle(kagglehub, name, partial)
        if fetched != partial:
            # On Kaggle's and Colab's own machines the data are mounted and not copied.
            return _innermost(fetched)
        # kagglehub's note that the download is complete; the folder's own name says so here.
        shutil.rmtree(partial / ".complete", ignore_errors=True)
        partial.replace(path)
    except OSError as error:
        raise HilumError(
            f"{path} cannot be written: {error.strerror or error}. "
            "Free some space or choose another folder."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return _innermost(path)


def _download_from_kaggle(kagglehub: ModuleType, name: str, partial: Path) -> Path:
    try:
        return Path(kagglehub.dataset_download(name, output_dir=str(partial)))
    except Exception as error:
        # kagglehub raises errors of several libraries, over several lines.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"kaggle:{name} cannot be fetched: {reason.rstrip('.')}. Check the name and the "
            "connection; where the data set asks for an account, put a token from "
            "https://www.kaggle.com/settings into KAGGLE_API_TOKEN. Or download it with a "
            "browser and unpack it."
        ) from error


@contextlib.contextmanager
def _kagglehub() -> Iterator[ModuleType]:
    """Give kagglehub, kept from writing to stdout, where results belong."""
    with contextlib.redirect_stdout(sys.stderr):
        try:
            import kagglehub
        except ImportError:
            raise MissingExtraError("kagglehub", "fetch", "Fetching from Kaggle") from None
        logger = logging.getLogger("kagglehub")
        level = logger.level
        logger.setLevel(logging.WARNING)
        try:
            yield kagglehub
        finally:
            logger.setLevel(level)


def _innermost(path: Path) -> Path:
    """Step into folders that hold nothing but one folder, as many archives are packed."""
    inside = [entry for entry in path.iterdir() if entry.name != "__MACOSX"]
    if len(inside) == 1 and inside[0].is_dir():
        return _innermost(inside[0])
    return path
