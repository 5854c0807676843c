"""The command line of vectors: `cah cluster` and `cah near-duplicates`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cah_dask.jobs_cli import Machine, Overrides, Scratch, beside, carry_out, news, require_all
from cah_dask.terminal import say, tell
from cah_dask.words import counted

if TYPE_CHECKING:
    from cah_dask.curate.pools.pool import Pool

vectors_app = typer.Typer()

PoolPath = Annotated[
    Path,
    typer.Argument(metavar="POOL", help="Run folder, release, or DataComp metadata with .npz."),
]
To = Annotated[Path, typer.Option(help="Folder that is written.")]
VectorsName = Annotated[
    str,
    typer.Option("--vectors", help="Such as b32/image. Default: the only ones of images."),
]


@vectors_app.command()
def cluster(
    pool: PoolPath,
    to: To,
    k: Annotated[int, typer.Option("--k", min=1, help="Clusters.")],
    vectors: VectorsName = "",
    iterations: Annotated[int, typer.Option(min=1, help="Iterations of k-means.")] = 20,
    share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the rows, drawn by their uids.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Another one draws and starts elsewhere.")] = 0,
    config: Machine = None,
    overrides: Overrides = None,
    scratch: Scratch = None,
) -> None:
    """Make centroids of the vectors of a pool by k-means. Run the same command again to resume."""
    from cah_dask.run.clustering import jobs, outputs
    from cah_dask.run.clustering.centroid_tasks import SAMPLE, ClusterOptions

    found = _opened(pool)
    options = ClusterOptions(
        vectors=jobs.array_of(found, vectors), k=k, iterations=iterations, share=share, seed=seed
    )
    if outputs.is_written(to, found.fingerprint, options, outputs.ClusterManifest):
        tell(news(to, is_new=False))
        return
    job = jobs.ClusterJob(found, options, scratch or beside(to, "cluster"))
    ended = carry_out(job, config, overrides or ())
    require_all(ended)
    made = outputs.write_centroids(job, ended.counts[SAMPLE.name], to)
    job.folder.forget()
    rows = made.counts.kept
    tell(f"{to}: {counted(k, 'centroid')} of {counted(rows, 'row')}")
    tell(
        f"mean squared distance: {made.objectives[0] / rows:.4f} before the first iteration, "
        f"{made.objectives[-1] / rows:.4f} before the last"
    )


@vectors_app.command("near-duplicates")
def near_duplicates(
    pool: PoolPath,
    to: To,
    bound: Annotated[float, typer.Option(help="Least cosine of near duplicates, such as 0.96.")],
    vectors: VectorsName = "",
    by: Annotated[
        str, typer.Option(help="Column whose higher value stays. Default: similarity, if any.")
    ] = "",
    centroids: Annotated[
        Path | None,
        typer.Option(help="Folder of `cah cluster`, or .npy. Else all rows are compared."),
    ] = None,
    neighbours: Annotated[
        int,
        typer.Option(min=0, help="With how many others a cluster is compared, at least."),
    ] = 16,
    config: Machine = None,
    overrides: Overrides = None,
    scratch: Scratch = None,
) -> None:
    """Name the rows of a pool whose vectors are close to those of a better row.

    Run the same command again to resume.
    """
    from cah_dask.run.clustering import jobs, outputs
    from cah_dask.run.clustering.duplicate_clusters import SETTLE, NearDuplicateOptions
    from cah_dask.storage import file_sha256

    found = _opened(pool)
    file = None if centroids is None else outputs.centroids_file(centroids)
    options = NearDuplicateOptions(
        vectors=jobs.array_of(found, vectors),
        bound=bound,
        by=jobs.rank_of(found, by),
        neighbours=neighbours if file is not None else 0,
        centroids="" if file is None else file_sha256(file),
    )
    if outputs.is_written(to, found.fingerprint, options, outputs.NearDuplicateManifest):
        tell(news(to, is_new=False))
        return
    job = jobs.NearDuplicateJob(found, options, scratch or beside(to, "near-duplicates"), file)
    ended = carry_out(job, config, overrides or ())
    require_all(ended)
    made = outputs.write_near_duplicates(job, ended.counts[SETTLE.name], to)
    job.folder.forget()
    gone = made.counts.seen - made.counts.kept
    tell(f"{to}: {counted(gone, 'near duplicate')} among {counted(made.counts.seen, 'row')}")


def _opened(path: Path) -> "Pool":
    from cah_dask.curate.pools.opening import open_pool

    pool = open_pool(path)
    for note in pool.notes:
        say(f"note: {note}")
    return pool
