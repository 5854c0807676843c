"""Measure embedding beside a plain loop over open_clip and clip-retrieval: the same weights.

    python benchmarks/embed.py [--peer /path/to/env-with-clip-retrieval/bin/python]
    python benchmarks/embed.py --device cuda --model ViT-L-14 --precision bf16 --batch-size 512

Draws JPEGs of 256 px and captions of about 12 words, and makes random weights. On the processor
each program runs in a process of its own, --runs times in turn, and the medians are printed. CPU
seconds are user + system of the whole process tree, less those of a run over two pairs
(interpreters, imports, loading). On a GPU only ours runs, for pairs a second.
"""

import argparse
import importlib
import json
import os
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from cah_dask.images.shards import ShardWriter
from cah_dask.pairs.encoders.open_clip_import import open_clip
from cah_dask.pairs.encoders.tokens import text_reader

WORDS = """
a the of and in on with for from at photo picture red blue black white old new vintage small large
wooden cat dog horse house street beach mountain lake garden kitchen table people woman man children
city night sunset winter summer shoes dress car train boat free download stock image vector
illustration poster print sale price best design idea modern living room
"""

OURS = """
import json, sys
from pathlib import Path
import pyarrow as pa
from cah_dask.images.shards import ShardReader
from cah_dask.pairs.embed import embed_list, from_shard
from cah_dask.pairs.encoders.load import load_encoders
from cah_dask.pairs.options import EmbedOptions, EncoderOptions
from cah_dask.schema import OUTCOMES, SAMPLES

case = json.loads(sys.argv[1])
options = EmbedOptions(
    encoders={"clip": EncoderOptions(image=case["model"])},
    batch_size=case["batch_size"], precision=case["precision"], device=case["device"],
)
encoders = load_encoders(options, threads=case["threads"])
captions = json.loads(Path(case["folder"], "captions.json").read_text())[: case["n"]]
filled = {pa.string(): "", pa.int64(): 0, pa.int32(): 0, pa.bool_(): False, pa.float32(): 0.0}
given = {"text": captions, "url": [str(n) for n in range(case["n"])], "split": ["en"] * case["n"],
         "status": ["ok"] * case["n"], "image_row": list(range(case["n"]))}

def drawn(schema):
    empty = {f.name: [filled.get(f.type)] * case["n"] for f in schema}
    return pa.table([pa.array((empty | given)[f.name], f.type) for f in schema], schema=schema)

samples, outcomes = drawn(SAMPLES), drawn(OUTCOMES)
with ShardReader(Path(case["folder"]) / "images.h5") as shard:
    images = from_shard(shard, encoders, case["batch_size"], threads=case["decoders"])
    made = embed_list(samples, outcomes, images, encoders)
assert len(made.table) == case["n"]
"""

LOOP = """
import io, json, sys
from pathlib import Path
from cah_dask.pairs.encoders.open_clip_import import open_clip
library = open_clip()
import torch
from PIL import Image

case = json.loads(sys.argv[1])
torch.set_num_threads(case["threads"])
model, transform = library.create_model_from_pretrained("local-dir:" + case["model"])
tokenizer = library.get_tokenizer("local-dir:" + case["model"])
model.eval()
captions = json.loads(Path(case["folder"], "captions.json").read_text())[: case["n"]]
files = [Path(case["folder"]) / "files" / f"{row:05d}.jpg" for row in range(case["n"])]
done = 0
with torch.inference_mode():
    for at in range(0, case["n"], case["batch_size"]):
        batch = slice(at, at + case["batch_size"])
        pixels = torch.stack([transform(Image.open(file)) for file in files[batch]])
        images = model.encode_image(pixels, normalize=True)
        texts = model.encode_text(tokenizer(captions[batch]), normalize=True)
        done += len((images * texts).sum(-1))
assert done == case["n"]
"""

PEER = """
import json, sys
import numpy as np
import torch
try:
    import torchvision
except RuntimeError:  # one built for CUDA, beside a torch for processors
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    for name in [name for name in sys.modules if name.startswith("torchvision")]:
        del sys.modules[name]
from clip_retrieval.clip_inference.main import main

if __name__ == "__main__":
    case = json.loads(sys.argv[1])
    pairs = case["folder"] + ("/pairs.tar" if case["n"] > 2 else "/two.tar")
    weights = case["model"] + "/open_clip_model.safetensors"
    main(pairs, case["out"], input_format="webdataset", batch_size=case["batch_size"],
         num_prepro_workers=0, output_partition_count=1,
         clip_model=f"open_clip:{case['architecture']}/{weights}")
    assert len(np.load(case["out"] + "/text_emb/text_emb_0.npy")) == case["n"]
"""


def draw(folder: Path, n: int) -> None:
    """Leave the pairs as an image shard, as files and as a tar, and two of them as another."""
    chance = np.random.default_rng(0)
    words = random.Random(0)
    captions = [
        " ".join(words.choices(WORDS.split(), k=max(1, round(words.gauss(12, 5)))))
        for _ in range(n)
    ]
    (folder / "captions.json").write_text(json.dumps(captions))
    (folder / "files").mkdir()
    with (
        ShardWriter(folder / "images.h5") as shard,
        tarfile.open(folder / "pairs.tar", "w") as tar,
        tarfile.open(folder / "two.tar", "w") as two,
    ):
        for row, caption in enumerate(captions):
            width = int(chance.integers(256, 400))
            coarse = Image.fromarray(chance.integers(0, 256, (24, 24, 3), np.uint8))
            levels = np.asarray(coarse.resize((width, 256), Image.Resampling.BICUBIC)).astype(int)
            noisy = levels + chance.normal(0, 6, levels.shape)
            path = folder / "files" / f"{row:05d}.jpg"
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=95)
            path.with_suffix(".txt").write_text(caption)
            shard.add(path.read_bytes())
            for file in (path, path.with_suffix(".txt")):
                for each in (tar, two) if row < 2 else (tar,):
                    each.add(file, file.name)


def save_model(folder: Path, architecture: str) -> None:
    """Leave an open_clip model with random weights."""
    library = open_clip()
    folder.mkdir()
    torch.manual_seed(0)
    model = library.create_model(architecture)
    document = {"model_cfg": library.get_model_config(architecture), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(document))
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")


def execute(python: str, code: str, case: dict) -> tuple[float, float]:
    """Run one program; return the CPU and the wall seconds of its process tree."""
    threads = {"OMP_NUM_THREADS": str(case["threads"]), "MKL_NUM_THREADS": str(case["threads"])}
    with tempfile.TemporaryDirectory() as out, tempfile.TemporaryFile() as said:
        program = Path(out) / "program.py"
        program.write_text(code)
        started = time.perf_counter()
        child = subprocess.Popen(
            [python, str(program), json.dumps(case | {"out": f"{out}/out"})],
            env=os.environ | threads,
            stdout=said,
            stderr=said,
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = status
        if status:
            said.seek(0)
            raise SystemExit(f"{python} failed:\n{said.read().decode(errors='replace')[-3000:]}")
        return usage.ru_utime + usage.ru_stime, time.perf_counter() - started


def compare(case: dict, args: argparse.Namespace) -> None:
    """Run all programs in turn; print a line for each."""
    programs = {"cah_dask": (sys.executable, OURS), "open_clip loop": (sys.executable, LOOP)}
    if args.peer:
        programs["clip-retrieval"] = (args.peer, PEER)
    idle = {who: execute(*program, case | {"n": 2})[0] for who, program in programs.items()}
    runs: dict[str, list[tuple[float, float]]] = {who: [] for who in programs}
    for _ in range(args.runs):
        for who, program in programs.items():
            runs[who].append(execute(*program, case))
            print(f"{who}: {runs[who][-1][0]:.1f} CPU s", flush=True)
    n = case["n"] - 2
    ours = [cpu - idle["cah_dask"] for cpu, _ in runs["cah_dask"]]
    print("| program | CPU ms a pair (min, median, max) | pairs/CPU-s | CPU time / ours | wall s |")
    for who, done in runs.items():
        each = [cpu - idle[who] for cpu, _ in done]
        middle = statistics.median(each)
        ratio = statistics.median(other / own for other, own in zip(each, ours, strict=True))
        low, median, high = (1000 * value / n for value in (min(each), middle, max(each)))
        wall = statistics.median(wall for _, wall in done)
        print(
            f"| {who} | {low:.0f}, {median:.0f}, {high:.0f} | {n / middle:.1f} | {ratio:.2f} "
            f"| {wall:.0f} |"
        )


def on_gpu(case: dict) -> None:
    """Print pairs a second, and what of the GPU they take."""
    idle = execute(sys.executable, OURS, case | {"n": 2})[1]
    with Busy() as busy:
        wall = execute(sys.executable, OURS, case)[1]
    rate = (case["n"] - 2) / (wall - idle)
    ceiling = matrix_product(torch.device("cuda"), 8192)
    share = rate * flop_of_pair(case["architecture"]) / ceiling
    print(f"{case['architecture']} {case['precision']} on {torch.cuda.get_device_name()}")
    print(f"pairs/s {rate:,.0f}; GPU busy {busy.share:.0%} (nvidia-smi, start included)")
    print(f"bf16 matrix product {ceiling / 1e12:,.0f} TFLOP/s, of which the towers use {share:.0%}")
    print(f"decoding on the GPU: {decoded(Path(case['folder']), 'cuda'):,.0f} images/s")


class Busy:
    """Asks nvidia-smi how busy the GPU is, while something else runs."""

    def __enter__(self) -> "Busy":
        """Start to ask."""
        command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        self._asking = subprocess.Popen(
            [*command, "-lms", "200"], stdout=subprocess.PIPE, text=True
        )
        self._said: list[int] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        return self

    def _read(self) -> None:
        self._said += [int(line) for line in self._asking.stdout or () if line.strip().isdigit()]

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._asking.terminate()
        self._asking.wait()
        self._thread.join()

    @property
    def share(self) -> float:
        """Mean of what was said, 0 to 1."""
        return statistics.mean(self._said or [0]) / 100


def matrix_product(device: Any, side: int) -> float:
    """Return the FLOP/s of a product of bf16 matrices."""
    left = torch.ones((side, side), dtype=torch.bfloat16, device=device)
    seconds = timed(lambda: left @ left)
    return 2 * side**3 / seconds


def timed(function: Callable[[], Any], repeat: int = 20) -> float:
    """Return the seconds of one of several calls, the first left out."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    function()
    wait()
    started = time.perf_counter()
    for _ in range(repeat):
        function()
    wait()
    return (time.perf_counter() - started) / repeat


def flop_of_pair(architecture: str) -> float:
    """Return the FLOP of an image and a text of 16 tokens, about the mean of the captions."""
    library = open_clip()
    model = library.create_model(architecture).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        size = model.visual.image_size
        model.encode_image(torch.zeros(1, 3, *((size, size) if isinstance(size, int) else size)))
        text_reader(model).features(model, torch.ones((1, 16), dtype=torch.long))
    return float(counter.get_total_flops())


def decoded(folder: Path, device: str) -> float:
    """Return how many JPEGs a second torchvision decodes on a device."""
    open_clip()
    decode_jpeg = importlib.import_module("torchvision.io").decode_jpeg
    files = sorted((folder / "files").glob("*.jpg"))[:256]
    data = [torch.frombuffer(bytearray(file.read_bytes()), dtype=torch.uint8) for file in files]
    return len(data) / timed(lambda: decode_jpeg(data, device=device), repeat=5)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peer", help="python of an environment with clip-retrieval")
    parser.add_argument("--pairs", type=int, default=258, help="two of them are not counted")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", default="ViT-B-32", help="architecture of open_clip")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2, help="of the models, on the processor")
    parser.add_argument("--decoders", type=int, default=1, help="threads that decode, of ours")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"], default="fp32")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder, args.pairs)
        save_model(folder / "model", args.model)
        case = {
            "folder": name,
            "model": str(folder / "model"),
            "architecture": args.model,
            "n": args.pairs,
            **{key: getattr(args, key) for key in ("batch_size", "threads", "decoders")},
            **{key: getattr(args, key) for key in ("device", "precision")},
        }
        if args.device == "cuda":
            on_gpu(case)
        else:
            compare(case, args)


if __name__ == "__main__":
    main()
