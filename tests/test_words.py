import logging
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask import cli, jobs_cli
from cah_dask.errors import ConfigError
from cah_dask.words import counted, cut, printable, short, span


@given(st.text(alphabet=st.characters(codec=None)))
def test_no_text_tells_a_terminal_what_to_do(text):
    shown = printable(text)
    controls = {char for char in shown if unicodedata.category(char) == "Cc"}
    assert controls <= {"\t", "\n"}
    shown.encode()


def test_plain_texts_stay():
    assert printable("a\tb\n中文 é 👍") == "a\tb\n中文 é 👍"
    assert printable("\x1b]0;x\x07\u202e") == r"\x1b]0;x\x07\u202e"
    for hidden in "\u200e\u200f\u061c\u2028\u2029\ufeff\u200b\u2066\ue000\U000e0041\xad":
        assert printable(f"a{hidden}b").isascii(), ascii(hidden)
    assert printable("👨\u200d👩 a\u200cb") == "👨\u200d👩 a\u200cb"


def test_errors_and_logs_are_printable(capsys, monkeypatch, tmp_path):
    def refuse() -> None:
        raise ConfigError("no \x1b[2J here")

    monkeypatch.setattr(cli, "app", refuse)
    with pytest.raises(SystemExit, match="3"):
        cli.main()
    with jobs_cli.log_to(tmp_path / "log"):
        logging.getLogger("cah_dask.x").warning("a file called %s", "\x1b[31m\x9b")
    assert "\x1b" not in capsys.readouterr().err
    assert r"a file called \x1b[31m\x9b" in (tmp_path / "log").read_text()


def test_of_a_long_text_the_beginning_is_shown():
    assert short(" a\n\tb \u202e ", 9) == r"a b \u20…"
    assert short(" a\n b ", 3) == "a b"
    assert cut("abcd", 4) == "abcd"
    assert cut("abcde", 4) == "abc…"


def test_nouns_have_plurals():
    assert [counted(n, "row") for n in (0, 1, 2_000)] == ["0 rows", "1 row", "2,000 rows"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "-"), (0, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (7199, "1 h 59 min"),
     (7200, "2 h 0 min"), (172_800, "2 d 0 h"), (1e6, "11 d 13 h")],
)  # fmt: skip
def test_a_time_is_said_as_people_do(seconds: float | None, said: str):
    assert span(seconds) == said
