"""A user's mistake is one line without a traceback; a fault of the program is never one line."""

import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from clone import ROOT

from errors import UserError
from experiment.workflow import console


def fails(error: BaseException) -> Callable[[], str]:
    def main() -> str:
        raise error

    return main


@pytest.fixture(autouse=True)
def arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["stages/embed.py"])


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("a.zip: get it again"), "embed: a.zip: get it again"),
        (
            UserError("a\nb\x1b[2J\udc80é: no", "all of them"),
            "embed: a\\nb\\x1b[2J\\udc80é: no\nall of them",
        ),
        (FileNotFoundError(2, "No such file", "a.pt"), "embed: [Errno 2] No such file: 'a.pt'"),
        (OSError(28, "No space left on device"), "embed: [Errno 28] No space left on device"),
        (KeyboardInterrupt(), "embed: interrupted"),
    ],
)
def test_what_a_user_can_mend_is_one_line(error: BaseException, line: str) -> None:
    with pytest.raises(SystemExit) as ended:
        console.run(fails(error))
    assert ended.value.code == line


@pytest.mark.parametrize("error", [ValueError("oops"), KeyError("x"), RuntimeError("x")])
def test_a_fault_of_the_program_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        console.run(fails(error))
    assert raised.value is error


def test_an_interrupt_while_a_stage_imports_is_one_line() -> None:
    process = subprocess.Popen(
        [sys.executable, "-v", "-m", "stages.pretrain", "nothing"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:  # until the import of torch has begun
        if line.startswith("import 'torch") or "'torch.version'" in line:
            break
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Traceback" not in rest
    assert "interrupted" in rest
