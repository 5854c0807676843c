"""What a worker process is before its first task."""

import logging

import pytest

from cah_dask.run.cluster.worker import keep_libraries_quiet, keep_own_gpu


@pytest.mark.parametrize(
    ("worker", "devices", "own"),
    [
        ("gpu-3-1", "4,5,6,7", "5"),
        ("gpu-3-0", "GPU-1f2e,GPU-33aa", "GPU-1f2e"),
        ("gpu-3", "4,5", "4,5"),
        ("cpu-3-1", "4,5", "4,5"),
    ],
)
def test_a_worker_sees_the_gpu_of_its_number_in_the_job(worker: str, devices: str, own: str):
    environment = {"CUDA_VISIBLE_DEVICES": devices, "ROCR_VISIBLE_DEVICES": devices}
    keep_own_gpu(environment, worker, is_amd=False)
    assert environment["CUDA_VISIBLE_DEVICES"] == own


def test_on_amd_nodes_only_rocr_counts():
    environment = {"CUDA_VISIBLE_DEVICES": "2,3", "ROCR_VISIBLE_DEVICES": "2,3"}
    keep_own_gpu(environment, "gpu-1-1", is_amd=True)
    assert environment == {"ROCR_VISIBLE_DEVICES": "3"}


def test_a_decoder_killed_from_outside_is_no_news_on_the_terminal():
    logger = logging.getLogger("asyncio")
    before = logger.level
    try:
        keep_libraries_quiet()
        assert not logger.isEnabledFor(logging.WARNING)
        assert logger.isEnabledFor(logging.ERROR)
    finally:
        logger.setLevel(before)
