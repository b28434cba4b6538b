from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hilum.errors import RunError
from hilum.locks import LOCK_FILE, locked

HOLD = """
import sys, time
from pathlib import Path
from hilum.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def start_holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_told_who_works_and_what_to_do(tmp_path: Path) -> None:
    with start_holder(tmp_path) as holder:
        try:
            with pytest.raises(RunError) as error, locked(tmp_path):
                pass
            assert re.fullmatch(
                rf"{re.escape(str(tmp_path))} is in use by process {holder.pid} on \S+ since \S+\. "
                "Wait until that ends, or end it; then start again.",
                str(error.value),
            )
        finally:
            holder.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_what_a_killed_process_left_behind_locks_nothing(tmp_path: Path) -> None:
    with start_holder(tmp_path) as holder:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    assert (tmp_path / LOCK_FILE).exists()
    with locked(tmp_path):
        pass
    assert not (tmp_path / LOCK_FILE).exists()


def test_the_file_goes_when_work_ends_or_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "new"):
        raise ZeroDivisionError
    assert list((tmp_path / "new").iterdir()) == []


def _add_one(folder: Path, n_times: int) -> None:
    """Count in a file, which loses counts unless one process works at a time."""
    done = 0
    while done < n_times:
        try:
            with locked(folder):
                path = folder / "count"
                path.write_text(str(int(path.read_text()) + 1))
                done += 1
        except RunError:
            continue


def test_no_two_processes_work_at_once(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add_one, args=(tmp_path, 50)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (tmp_path / "count").read_text() == "150"
