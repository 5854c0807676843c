import pytest

from cah_dask.demo.demo import CONFIG_FILE, run_demo
from cah_dask.errors import ConfigError


@pytest.mark.parametrize("warcs", [False, True])
def test_a_run_over_a_tenth_of_the_web_finds_exactly_what_was_planted(tmp_path, warcs):
    verdict = run_demo(tmp_path / "demo", share=0.1, warcs=warcs)

    assert [row for row in verdict.rows if not row.is_right] == []
    assert len(verdict.rows) > 60
    assert verdict.precision >= 0.95
    assert verdict.recall >= 0.95
    assert verdict.is_good


def test_a_folder_with_anything_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")

    with pytest.raises(ConfigError, match="not the folder of a demo"):
        run_demo(tmp_path)

    assert (tmp_path / "thesis.tex").exists()
    assert not (tmp_path / CONFIG_FILE).exists()
