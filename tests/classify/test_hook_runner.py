"""What a hook may do to a worker: nothing that costs more than its record."""

import contextlib
import os
import signal

import numpy as np
import psutil
import pytest

from cah_dask.archives.responses import Response
from cah_dask.classify.arrays import unpacked
from cah_dask.classify.hook_runner import HookRunner
from cah_dask.classify.loading import require_callable
from cah_dask.classify.options import ClassifyOptions, HookOptions
from cah_dask.errors import ConfigError, RetryableError, RunError

READ = "tests.classify.bad_hooks:read"
MODEL = "tests.classify.models:Lengths"


def record(body: str) -> Response:
    return Response(
        offset=0, kind="response", url="https://a.example/", date="2024-01-01T00:00:00Z",
        digest="", status=200, headers=(), mime="text/plain", refers_to=("", ""),
        body=body.encode(), fault="",
    )  # fmt: skip


def outcomes(*bodies: str, **options) -> list[str]:
    given = {"read": READ, "model": MODEL, "hook_timeout_s": 0.2}
    chosen = ClassifyOptions(**{**given, **options})
    with HookRunner(chosen) as runner:
        runner.send([record(body) for body in bodies])
        first = [answer.outcome for answer in runner.receive()]
        runner.send([record("fine")])
        assert [answer.outcome for answer in runner.receive()] == [""], "it goes on"
    return first


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ("raise", "hook_error"),
        ("exit", "hook_error"),
        ("loop", "hook_timeout"),
        ("stubborn", "hook_timeout"),
        ("crash", "hook_crash"),
        ("none", "not_wanted"),
        ("number", "hook_error"),
        ("object", "bad_item"),
        ("print", ""),
        ("leave 60", "hook_crash"),
        ("fork", ""),
    ],
)
def test_a_hook_that_misbehaves_costs_its_record(body: str, outcome: str):
    assert outcomes("a", body, "b") == ["", outcome, ""]


def test_a_process_that_is_killed_costs_no_record(tmp_path):
    assert outcomes("a", f"once {tmp_path / 'mark'}", "b") == ["", "", ""]


def test_several_bad_records_in_one_batch():
    found = outcomes("crash", "a", "stubborn", "raise", "crash", "b")
    crash = "hook_crash"
    assert found == [crash, "", "hook_timeout", "hook_error", crash, ""]


def test_each_answer_is_of_its_record_though_copies_of_the_process_go_on():
    options = ClassifyOptions(read=READ, model=MODEL, payload="all")
    with HookRunner(options) as runner:
        for number in range(8):
            bodies = ["fork", *(f"{letter}{number}" for letter in "abc")]
            runner.send([record(body) for body in bodies])
            assert [answer.payload.decode() for answer in runner.receive()] == bodies


def test_what_a_hook_says_comes_back_whatever_it_is():
    with HookRunner(ClassifyOptions(read=READ, model=MODEL)) as runner:
        runner.send([record(body) for body in ("surrogate", "untold", "a")])
        surrogate, untold, fine = runner.receive()
    assert surrogate.message == r"read: ValueError: half a \ud800 character"
    assert untold.message == "read: UntoldError: it cannot be told what"
    assert (surrogate.outcome, untold.outcome, fine.outcome) == ("hook_error", "hook_error", "")


def test_arrays_that_cannot_be_packed_cost_their_item():
    prepare = "tests.classify.bad_hooks:odd_arrays"
    bodies = ("a", "half", "lazy", "empty", "numbered")
    bad = "bad_item"
    with HookRunner(ClassifyOptions(read=READ, prepare=prepare, model=MODEL)) as runner:
        runner.send([record(body) for body in bodies])
        answers = runner.receive()
    assert [answer.outcome for answer in answers] == ["", bad, bad, bad, bad]
    assert r"not '\ud800'" in answers[1].message


@pytest.mark.parametrize(
    ("body", "outcome"), [("much", "hook_error"), ("much_in_native_code", "hook_crash")]
)
def test_memory_beyond_the_limit_costs_its_record(body: str, outcome: str):
    assert outcomes("a", body, "b", hook_memory_gb=0.2) == ["", outcome, ""]
    assert outcomes(body, hook_memory_gb=1, hook_timeout_s=5) == [""]


@pytest.mark.parametrize("source", ["exit(0)", "def read(record): pass\nraise SystemExit"])
def test_a_module_that_exits_is_one_line(source: str, tmp_path, monkeypatch):
    name = f"exits_{len(source)}"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=f"{name}:read cannot be imported .*: SystemExit"):
        require_callable(ClassifyOptions(read=f"{name}:read"))


def test_a_class_that_exits_is_one_line():
    with (
        pytest.raises(RunError, match=r"read: .*:Exits cannot be built: SystemExit: 3"),
        HookRunner(ClassifyOptions(read="tests.classify.bad_hooks:Exits")),
    ):
        pass


def test_a_process_that_does_not_start_says_why():
    with (
        pytest.raises(RetryableError, match=r"not start; the last .*: no library\\x1b\[31m here"),
        HookRunner(ClassifyOptions(read="tests.classify.bad_hooks:Dies")),
    ):
        pass


def test_the_last_that_is_printed_is_kept_and_the_terminal_left_alone(capfd):
    with HookRunner(ClassifyOptions(read=READ, model=MODEL)) as runner:
        runner.send([record(body) for body in ("print", "escape", "crash", "escape")])
        runner.receive()
    assert runner.printed[-1] == r"red \x1b[31m"
    assert 100 < len("".join(runner.printed)) < 5000
    assert capfd.readouterr() == ("", "")


def test_a_page_that_grows_without_end_costs_itself():
    page = "".join(f"<font color={number}><p>" for number in range(3000))
    read = "cah_dask.classify.readers.text:MainTexts"
    with HookRunner(ClassifyOptions(read=read, hook_memory_gb=0.3)) as runner:
        runner.send([record(body)._replace(mime="text/html") for body in (page, "<p>Text")])
        grown, text = runner.receive()
    assert (grown.outcome, text.outcome) == ("hook_error", "")
    assert "Failed to parse" in grown.message


def test_a_process_that_dies_between_batches_is_missed_though_a_copy_of_it_lives():
    with HookRunner(ClassifyOptions(read=READ, model=MODEL, payload="all")) as runner:
        runner.send([record("copy")])
        (answer,) = runner.receive()
        pid, copy = map(int, answer.payload.split())
        os.kill(pid, signal.SIGKILL)
        runner.send([record("fine")])
        assert [answer.payload for answer in runner.receive()] == [b"fine"]
        assert is_gone(copy)


def test_modules_beside_the_hooks_do_not_stand_for_those_of_python(tmp_path, monkeypatch):
    for name in ("random", "socket", "msgspec"):
        (tmp_path / f"{name}.py").write_text("raise ValueError('not the one that was meant')\n")
    (tmp_path / "hooks_beside.py").write_text("def read(record):\n    return record.body\n")
    monkeypatch.chdir(tmp_path)
    with HookRunner(ClassifyOptions(read="hooks_beside:read", model=MODEL)) as runner:
        runner.send([record("fine")])
        assert [answer.outcome for answer in runner.receive()] == [""]


def is_gone(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def test_arrays_and_payloads_come_back():
    prepare = HookOptions(use="tests.classify.bad_hooks:Scaled", arguments={"by": 3})
    options = ClassifyOptions(read=READ, prepare=prepare, model=MODEL, payload="all")
    with HookRunner(options) as runner:
        runner.send([record("abc"), record("x"), record("bytes")])
        some, other, of_a_class = runner.receive()
    assert (some.payload, other.payload) == (b"abc", b"x")
    assert of_a_class.payload == b"of a class"
    (array,) = unpacked(some.arrays).values()
    assert array.dtype == np.dtype("<i2")
    assert array.tolist() == [0, 3, 6]
    assert unpacked(other.arrays)["x"].shape == (1,)


def test_hooks_that_cannot_be_built_there_are_one_line():
    prepare = HookOptions(use="tests.classify.bad_hooks:Scaled", arguments={"with": 3})
    with (
        pytest.raises(RunError, match=r"prepare: tests.classify.bad_hooks:Scaled cannot be built"),
        HookRunner(ClassifyOptions(prepare=prepare, model=MODEL)),
    ):
        pass
