from __future__ import annotations

import hashlib
import io
import json
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hilum import fetching
from hilum.dataset import load_dataset
from hilum.errors import DataError, HilumError, MissingExtraError, SettingError
from hilum.fetching import MEDMNIST_MD5, MEDMNIST_SIZES, MEDMNIST_URL, fetch

Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """A web server on the loopback address; `answers` says what each path gives."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                server.answers.get(self.path.split("?")[0], _not_found)(self)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.do_GET()

            def log_message(self, *args: Any) -> None:
                """Quiet."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


def gives(
    body: bytes, *, kind: str = "application/octet-stream", stated: int | None = -1
) -> Answer:
    """Answer with a body; `stated` is a length other than the true one, None states none."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        if stated is not None:
            handler.send_header("Content-Length", str(len(body) if stated < 0 else stated))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def redirects(to: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", to)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def cut_chunk(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"ff\r\nonly a little")


def _not_found(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(404, "NOT FOUND")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "*")
    running = Server()
    yield running
    running.close()


def an_npz() -> bytes:
    stream = io.BytesIO()
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, n in (("train", 8), ("val", 4), ("test", 4)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(n, dtype=np.uint8)[:, None] % 2
    np.savez(stream, **arrays)
    return stream.getvalue()


NPZ = an_npz()
FILE = "/breastmnist_64.npz"


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `NPZ` be what MedMNIST published as breastmnist in every size."""
    md5 = (hashlib.md5(NPZ).hexdigest(),) * len(MEDMNIST_SIZES)
    monkeypatch.setitem(MEDMNIST_MD5, "breastmnist", md5)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


# -- MedMNIST -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("published")
def test_a_set_is_fetched_checked_and_ready_to_train_on(server: Server, tmp_path: Path) -> None:
    server.answers[FILE] = gives(NPZ)
    path = fetch("medmnist:breastmnist@64", tmp_path / "data", url=server.url)
    assert path == tmp_path / "data" / "breastmnist_64.npz"
    assert path.read_bytes() == NPZ
    assert files(tmp_path / "data") == ["breastmnist_64.npz"]
    assert len(load_dataset(path)) == 16


@pytest.mark.usefixtures("published")
def test_without_a_size_it_is_28(server: Server, tmp_path: Path) -> None:
    server.answers["/breastmnist.npz"] = gives(NPZ)
    assert fetch("medmnist:breastmnist", tmp_path, url=server.url).name == "breastmnist.npz"
    assert server.asked == ["/breastmnist.npz?download=1"]


@pytest.mark.usefixtures("published")
def test_a_redirect_is_followed_and_a_length_need_not_be_stated(
    server: Server, tmp_path: Path
) -> None:
    server.answers[FILE] = redirects(f"{server.url}/elsewhere")
    server.answers["/elsewhere"] = gives(NPZ, stated=None)
    assert fetch("medmnist:breastmnist@64", tmp_path, url=server.url).read_bytes() == NPZ


@pytest.mark.usefixtures("published")
def test_what_is_there_already_is_checked_and_kept(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "breastmnist_64.npz"
    path.write_bytes(NPZ)
    assert fetch("medmnist:breastmnist@64", tmp_path, url=server.url) == path
    assert server.asked == []
    path.write_bytes(b"another file")
    with pytest.raises(DataError) as error:
        fetch("medmnist:breastmnist@64", tmp_path, url=server.url)
    assert str(error.value) == (
        f"{path} is there already and is not the published file: its MD5 is "
        f"{hashlib.md5(b'another file').hexdigest()}, not {hashlib.md5(NPZ).hexdigest()}. Move it "
        "away and fetch again, or choose another folder."
    )
    assert path.read_bytes() == b"another file"


def test_a_wrong_checksum_is_refused_and_nothing_stays(server: Server, tmp_path: Path) -> None:
    server.answers[FILE] = gives(NPZ)
    with pytest.raises(DataError) as error:
        fetch("medmnist:breastmnist@64", tmp_path, url=server.url)
    assert str(error.value) == (
        f"{server.url}{FILE} is not the published file: its MD5 is "
        f"{hashlib.md5(NPZ).hexdigest()}, not 742edef2a1fd1524b2efff4bd7ba9364. It was thrown "
        "away. Try again; if this stays so, the file on the server is damaged or was replaced."
    )
    assert files(tmp_path) == []


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("answer", [gives(NPZ[:1000], stated=len(NPZ)), cut_chunk])
def test_a_download_that_breaks_off_leaves_nothing(
    server: Server, tmp_path: Path, answer: Answer
) -> None:
    server.answers[FILE] = answer
    with pytest.raises(DataError) as error:
        fetch("medmnist:breastmnist@64", tmp_path, url=server.url)
    assert str(error.value) == (
        f"{server.url}{FILE}?download=1 broke off before its end. What had come was thrown away. "
        f"Try again. Or download it with a browser and save it as {tmp_path}{FILE}; it is checked "
        "when you retry."
    )
    assert files(tmp_path) == []


def test_a_file_that_the_server_lacks(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        fetch("medmnist:breastmnist@64", tmp_path, url=server.url)
    assert str(error.value) == (
        f"{server.url}{FILE}?download=1 was refused by the server: 404 NOT FOUND. Try later. Or "
        f"download it with a browser and save it as {tmp_path}{FILE}; it is checked when you retry."
    )
    assert files(tmp_path) == []


def test_no_network(server: Server, tmp_path: Path) -> None:
    server.close()
    with pytest.raises(DataError) as error:
        fetch("medmnist:breastmnist@64", tmp_path, url=server.url)
    assert "cannot be reached: [Errno" in str(error.value)
    assert f"save it as {tmp_path}{FILE}" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_server_that_falls_silent(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken = threading.Event()

    def silent(handler: BaseHTTPRequestHandler) -> None:
        gives(b"a", stated=10)(handler)
        woken.wait(5)

    server.answers[FILE] = silent
    monkeypatch.setattr(fetching, "TIMEOUT_S", 0.2)
    with pytest.raises(DataError, match="cannot be reached: timed out"):
        fetch("medmnist:breastmnist@64", tmp_path, url=server.url)
    woken.set()
    assert files(tmp_path) == []


@pytest.mark.parametrize("stated", [-1, None])
def test_a_download_may_not_exceed_the_limit(
    server: Server, tmp_path: Path, stated: int | None
) -> None:
    server.answers[FILE] = gives(NPZ, stated=stated)
    with pytest.raises(DataError, match=r"more than the 1,000 (bytes )?that are accepted"):
        fetch("medmnist:breastmnist@64", tmp_path, url=server.url, max_bytes=1000)
    assert files(tmp_path) == []


def test_a_download_that_the_disk_cannot_hold(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers[FILE] = gives(b"", stated=2**62)
    with pytest.raises(DataError, match=r"needs 4,611,.* bytes, and .* are free\. Free some space"):
        fetch("medmnist:breastmnist@64", tmp_path, url=server.url, max_bytes=2**63)


def test_a_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(HilumError, match="cannot be written"):
        fetch("medmnist:breastmnist", tmp_path / "data", url=server.url)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("medmnist:pneumonia-mnist", " Did you mean 'medmnist:pneumoniamnist'?"),
        ("breastmnist", " Did you mean 'medmnist:breastmnist'?"),
        ("medmnist:breastmnist@65", " Did you mean 'medmnist:breastmnist'?"),
        ("medmnist:breastmnist@", " Did you mean 'medmnist:breastmnist'?"),
        ("zzz:qqq", ""),
    ],
)
def test_unknown_names(tmp_path: Path, name: str, hint: str) -> None:
    with pytest.raises(SettingError) as error:
        fetch(name, tmp_path / "data")
    assert str(error.value) == (
        f"There is no data set '{name}' to fetch.{hint} Give medmnist:NAME[@SIZE], where NAME is "
        "one of pathmnist, chestmnist, dermamnist, octmnist, pneumoniamnist, retinamnist, "
        "breastmnist, bloodmnist, tissuemnist, organamnist, organcmnist, organsmnist and SIZE one "
        "of 28, 64, 128, 224; or kaggle:OWNER/DATASET."
    )
    assert files(tmp_path) == []


def test_every_set_has_a_checksum_of_its_own_for_every_size() -> None:
    sums = [md5 for sizes in MEDMNIST_MD5.values() for md5 in sizes]
    assert all(len(sizes) == len(MEDMNIST_SIZES) for sizes in MEDMNIST_MD5.values())
    assert len(set(sums)) == len(sums) == 48
    assert all(len(md5) == 32 and int(md5, 16) for md5 in sums)
    assert MEDMNIST_URL.startswith("https://zenodo.org/")


# -- Kaggle: kagglehub itself, against a server of our own ----------------------------------------

KAGGLE = "/v1/datasets.DatasetApiService"


@pytest.fixture
def kaggle(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    client = pytest.importorskip(
        "kagglesdk.kaggle_http_client", reason="kagglehub, of the extra 'fetch', is not installed"
    )
    monkeypatch.setattr(client, "get_endpoint", lambda _: server.url)
    # No account of the developer's is used, and nothing lands in a cache.
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    answer = json.dumps({"currentVersionNumber": 2}).encode()
    server.answers[f"{KAGGLE}/GetDataset"] = gives(answer, kind="application/json")
    server.answers[f"{KAGGLE}/DownloadDataset"] = redirects(f"{server.url}/archive.zip")
    server.answers["/archive.zip"] = gives(an_archive(), kind="application/zip")
    return server


def an_archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("a/1.png", "b/2.png"):
            archive.writestr(f"chest/{name}", name)
    return stream.getvalue()


def test_kaggle_gives_the_folder_inside_the_archive(
    kaggle: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "data"
    path = fetch("kaggle:someone/chests", out)
    assert path == out / "chests" / "chest"
    assert files(out) == ["1.png", "2.png", "a", "b", "chest", "chests"]
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "cache").exists()
    n_asked = len(kaggle.asked)
    assert fetch("kaggle:someone/chests", out) == path
    assert len(kaggle.asked) == n_asked


def test_kaggle_by_version(kaggle: Server, tmp_path: Path) -> None:
    path = fetch("kaggle:someone/chests/versions/7", tmp_path / "data")
    assert path == tmp_path / "data" / "chests-v7" / "chest"
    assert not any("GetDataset" in asked for asked in kaggle.asked)


def test_kaggle_without_such_a_set(kaggle: Server, tmp_path: Path) -> None:
    del kaggle.answers[f"{KAGGLE}/GetDataset"]
    with pytest.raises(DataError) as error:
        fetch("kaggle:someone/nothing", tmp_path / "data")
    text = str(error.value)
    assert text.startswith("kaggle:someone/nothing cannot be fetched: 404 Client Error.")
    assert text.endswith("Or download it with a browser and unpack it.")
    assert "\n" not in text
    assert files(tmp_path / "data") == []


def test_kaggle_with_a_broken_archive(kaggle: Server, tmp_path: Path) -> None:
    kaggle.answers["/archive.zip"] = gives(an_archive()[:100], kind="application/zip")
    with pytest.raises(DataError, match="cannot be fetched: Unsupported archive type"):
        fetch("kaggle:someone/chests", tmp_path / "data")
    assert files(tmp_path / "data") == []


@pytest.mark.parametrize(
    "name", ["chests", "a/b/c", "../x/y", "a/..", "a/b/versions/x", "a b/c", ""]
)
def test_kaggle_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingError) as error:
        fetch(f"kaggle:{name}", tmp_path / "data")
    assert str(error.value) == (
        f"'kaggle:{name}' does not name a data set. Give kaggle:OWNER/DATASET as in the address "
        "of its page, such as kaggle:paultimothymooney/chest-xray-pneumonia."
    )
    assert files(tmp_path) == []


def test_kaggle_without_kagglehub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(MissingExtraError) as error:
        fetch("kaggle:someone/chests", tmp_path / "data")
    assert str(error.value) == (
        "Fetching from Kaggle needs the package 'kagglehub', which is not installed. "
        "Install it with: pip install 'hilum[fetch]'"
    )
