from __future__ import annotations

import inspect
import pickle

import pytest

from hilum import errors
from hilum.errors import HilumError, MissingExtraError, UnreadableError, did_you_mean


def test_every_error_is_in_the_one_tree_and_drawn() -> None:
    classes = [
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, Exception)
    ]
    assert all(issubclass(each, HilumError) for each in classes)
    assert all(each.__name__ in (errors.__doc__ or "") for each in classes)
    assert all(each.__doc__ for each in classes)


def test_unreadable_error_names_file_and_reason_and_survives_pickling() -> None:
    error = UnreadableError("scan.png", "the file is empty")
    assert str(error) == "scan.png: the file is empty"
    again = pickle.loads(pickle.dumps(error))
    assert (again.name, again.reason, str(again)) == ("scan.png", "the file is empty", str(error))


def test_missing_extra_says_what_to_type() -> None:
    assert str(MissingExtraError("pyarrow", "parquet", "Reading a Parquet table")) == (
        "Reading a Parquet table needs the package 'pyarrow', which is not installed. Install it "
        "with: pip install 'hilum[parquet]'"
    )


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("epoch", ["epochs", "seed"], " Did you mean 'epochs'?"),
        ("PATH", ["Path", "Label"], " Did you mean 'Path'?"),
        ("zebra", ["epochs", "seed"], ""),
        ("x", [], ""),
    ],
)
def test_did_you_mean(word: str, known: list[str], hint: str) -> None:
    assert did_you_mean(word, known) == hint
