"""A worker of the gpu pool has two lists at once: one on the model, another read or written."""

from pathlib import Path

from cah_dask.pairs.options import EmbedOptions
from cah_dask.storage import read_receipt
from tests import runs
from tests.encoders import HashTowers
from tests.webserver import WebServer

LIST_URLS = 10


class Patient(HashTowers):
    """Embeds the first list only when pictures of another one have been made ready."""

    def __init__(self, options: EmbedOptions) -> None:
        del options
        super().__init__()
        self._n_ready = 0

    def preprocess(self, image):
        self._n_ready += 1
        return super().preprocess(image)

    def encode_images(self, images):
        is_of_a_run = len(images) > 1  # a check at the start gives it one
        if is_of_a_run and not runs.wait_for(lambda: self._n_ready > LIST_URLS, 60):
            raise RuntimeError("no other list is read")
        return super().encode_images(images)


def test_the_next_list_is_read_and_decoded_while_the_model_is_at_work_on_one(tmp_path: Path):
    with WebServer() as web:
        links = [(web.url(f"/ok-{n % 20}.jpg"), f"A picture of thing {n}") for n in range(60)]
        config = runs.write_config(
            tmp_path / "run.yaml",
            inputs=runs.write_inputs(tmp_path / "wats", links, archives=1),
            model=Path("unused"),
            port=web.port,
            dedup={"buckets": 1, "list_urls": LIST_URLS},
            embed={"model": f"{__name__}:Patient"},
            max_attempts=1,
        )
        assert runs.finish(config) == 0, runs.output(config)
    receipts = [read_receipt(part) for part in (tmp_path / "run" / "scored").rglob("*.parquet")]
    assert sum(receipt.counts.kept for receipt in receipts) == 60
    time_of = {
        kind: sum(receipt.timings[kind] for receipt in receipts) for kind in ("model", "worker")
    }
    seconds = sum(receipt.seconds or 0 for receipt in receipts)
    assert 0 < time_of["model"] <= time_of["worker"] + len(receipts)
    assert time_of["worker"] < 1000 * seconds  # what two lists had at once counts once
