"""A node that is cut off while it works, and comes back: two copies of a task, one result."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import runs
from tests.slurm.cluster import Cluster, Layout, has_networks
from tests.slurm.conftest import SKIPPED
from tests.slurm.launched import Gate, Run, assert_same, on_slurm, write_config, write_links

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(300),
]


@pytest.fixture
def cut_cluster(make_folder) -> Iterator[Cluster]:
    if not has_networks():
        pytest.skip(f"no right to make networks for nodes; {SKIPPED}")
    layout = Layout(nodes={"cpu": 1, "gpu": 1, "io": 2}, private_networks=True)
    with Cluster(make_folder("cut"), layout) as cluster:
        yield cluster


def test_a_node_that_is_cut_off_and_comes_back_changes_nothing(
    cut_cluster: Cluster, random_model: Path, tmp_path: Path
):
    with Gate(cut_cluster.address) as site:
        inputs = write_links(tmp_path / "inputs", site, links=24)
        (tmp_path / "local").mkdir()
        local = write_config(tmp_path / "local", site, inputs, random_model)
        assert runs.finish(local) == 0, runs.output(local)

        site.hold()
        options = on_slurm(options={"interfaces": ["eth0"]})
        run = Run(cut_cluster, write_config(tmp_path, site, inputs, random_model, **options))
        run.submit()
        site.wait()
        (job,) = run.workers("io")
        ((node,),) = [[n] for j, n in cut_cluster.jobs("%A|%N") if j == job]
        cut_cluster.cut(node)
        run.wait(lambda: run.workers("io") not in ([], [job]))
        site.hold()
        site.wait()
        cut_cluster.join(node)
        site.release()
        assert_same(run, local.with_suffix(""))
