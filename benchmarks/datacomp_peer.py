"""DataComp's own ``baselines.py`` as it stands in its repository, measured from outside.

It looks for its assets in its home folder and for checksums that only they have, and for a GPU in
its image-based filter. A ``sitecustomize.py`` in the path of its interpreter answers for these:
assets are files of a given folder, nothing is fetched, and "cuda:0" is the processor.
"""

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

SITE = """
import os, sys
if not any("resource_tracker" in word for word in sys.orig_argv):
    sys.path.insert(0, os.environ["DATACOMP"])
    import nltk, torch
    from baselines import utils
    utils.download = lambda name, root=None: os.path.join(os.environ["DATACOMP_ASSETS"], name)
    nltk.download = lambda name: True
    torch.cuda.is_available = lambda: True
    to = torch.Tensor.to
    torch.Tensor.to = lambda tensor, where, *rest, **named: (
        tensor if str(where).startswith("cuda") else to(tensor, where, *rest, **named)
    )
"""
SAVE = """
import sys
import numpy, torch
folder, = sys.argv[1:]
torch.save(numpy.load(folder + "/centroids.npy"), folder + "/small_centroids")
examples = torch.from_numpy(numpy.load(folder + "/examples.npy"))
for number, part in enumerate(torch.chunk(examples, 5)):
    torch.save({"image_features": part}, f"{folder}/in1k_clip_vit_l14_{number}")
"""


class Spent(NamedTuple):
    """What one run of a program took."""

    cpu_s: float
    peak_mb: float
    """Of the largest of its processes."""
    wall_s: float


class Peer:
    """DataComp's program.

    Parameters
    ----------
    source
        A checkout of mlfoundations/datacomp.
    python
        An interpreter that can import what it imports.
    folder
        Where its assets are put.
    """

    def __init__(self, source: Path, python: str, folder: Path) -> None:
        self._source = source.resolve()
        self._python = python
        self._assets = folder
        (folder / "site").mkdir(parents=True, exist_ok=True)
        (folder / "site" / "sitecustomize.py").write_text(SITE)

    def know_texts(self, nltk_data: Path, lid: Path, ids: Path) -> None:
        """Put the assets of its filters for texts where it finds them."""
        for name, path in (("fasttext", lid), ("imagenet21k_wordnet_ids", ids)):
            (self._assets / name).unlink(missing_ok=True)
            (self._assets / name).symlink_to(path.resolve())
        self._nltk_data = nltk_data.resolve()

    def know_images(
        self, centroids: npt.NDArray[np.float32], examples: npt.NDArray[np.float32]
    ) -> None:
        """Put centroids, and vectors in the place of those of ImageNet, where it finds them."""
        np.save(self._assets / "centroids.npy", centroids)
        np.save(self._assets / "examples.npy", examples)
        subprocess.run([self._python, "-c", SAVE, self._assets], check=True)

    def run(self, pool: Path, to: Path, arguments: Sequence[str]) -> Spent:
        """Write the subset file of a baseline, with one worker."""
        environment = os.environ | {
            "PYTHONPATH": str(self._assets / "site"),
            "DATACOMP": str(self._source),
            "DATACOMP_ASSETS": str(self._assets.resolve()),
            "NLTK_DATA": str(self._nltk_data),
            "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1",
            "HF_HUB_OFFLINE": "1",
        }
        name, *rest = arguments
        command = [
            self._python,
            "baselines.py",
            "--name",
            name,
            "--metadata_dir",
            str(pool.resolve()),
        ]
        command += ["--save_path", str(to.resolve()), "--num_workers", "1", *rest]
        started = time.perf_counter()
        with (to.with_suffix(".log")).open("w") as log:
            child = subprocess.Popen(
                command, cwd=self._source, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
            _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"DataComp's {name} ended with {child.returncode}, see {log.name}")
        cpu_s = usage.ru_utime + usage.ru_stime
        return Spent(cpu_s, usage.ru_maxrss / 1024, time.perf_counter() - started)
