"""What holds the parts together: imports, environments, configurations."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from tests.private_names import private_uses

ROOT = Path(__file__).parent.parent
CONDA_NAMES = {
    "ada-url": "ada-url-python",
    "brotli": "brotli-python",
    "prometheus-client": "prometheus_client",
    "open_clip_torch": "open-clip-torch",
    "torch": "pytorch",
}

PRIVATE_PARTS = ROOT / "cah_dask" / "run" / "cluster" / "private_parts.py"


def requirements() -> dict[str, str]:
    """What pip installs for users: name as conda has it -> version specifier."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + project["optional-dependencies"]["clip"]
    parsed = [Requirement(line) for line in lines]
    return {CONDA_NAMES.get(r.name, r.name): str(r.specifier) for r in parsed} | {
        "python": project["requires-python"]
    }


def conda_packages() -> dict[str, str]:
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    names = [item for item in listed if isinstance(item, str) and item != "pip"]
    from_pip = [name for item in listed if isinstance(item, dict) for name in item["pip"]]
    parsed = [Requirement(name) for name in names + from_pip]
    return {r.name: str(r.specifier) for r in parsed}


def test_conda_and_pip_install_the_same_things():
    assert conda_packages() == requirements()


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("cah_dask.cli", ["torch", "dask", "distributed", "pyarrow"]),
        ("cah_dask.pairs.catalogue", ["torch", "open_clip", "transformers"]),
        ("cah_dask.run.settings.config", ["torch", "open_clip", "onnxruntime", "distributed"]),
        ("cah_dask.run.tasks.images", ["torch", "open_clip", "onnxruntime"]),
        ("cah_dask.run.tasks.pairs", ["torch", "open_clip", "onnxruntime"]),
        ("cah_dask.run.pipeline", ["torch", "open_clip"]),
    ],
)
def test_importing_a_module_leaves_heavy_libraries_alone(module: str, absent: list[str]):
    code = f"import sys, {module}; print([m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_packages_reexport_nothing():
    for path in (ROOT / "cah_dask").rglob("__init__.py"):
        docstring, *rest = ast.parse(path.read_text()).body
        assert isinstance(docstring, ast.Expr), path
        assert all("__version__" in ast.unparse(line) for line in rest), path


def test_private_parts_of_dask_are_used_in_one_module():
    uses = {
        str(path.relative_to(ROOT)): found
        for path in (ROOT / "cah_dask").rglob("*.py")
        if (found := private_uses(path.read_text()))
    }
    assert set(uses) == {str(PRIVATE_PARTS.relative_to(ROOT))}, uses


@pytest.mark.parametrize(
    ("source", "use"),
    [
        ("import distributed\ndistributed.worker._logs", "2: distributed.worker._logs"),
        ("from distributed.worker import _logs", "1: import _logs"),
        (
            "from distributed import Client\ndef f(client: Client): client._send()",
            "2: client._send",
        ),
        (
            "from distributed import Scheduler\nclass Own(Scheduler):\n def _setup(self): 0",
            None,
        ),
        (
            "from distributed import SpecCluster as S\nclass Own(S):\n async def _start(self): 0",
            "3: def _start",
        ),
        (
            "from cah_dask.run.cluster.private_parts import slurm_job_class\n"
            "class Own(slurm_job_class()):\n def f(self): self._command_template = self._mine",
            "3: self._command_template",
        ),
        (
            "from distributed import SpecCluster\nclass A(SpecCluster): 0\n"
            "class B(A):\n def f(self): setattr(self, '_lock', 1)",
            "4: '_lock'",
        ),
    ],
)
def test_a_private_part_is_found_however_it_is_used(source: str, use: str | None):
    assert private_uses(source) == ([use] if use else [])


def test_the_configuration_page_is_what_the_command_prints():
    command = [sys.executable, "-m", "cah_dask", "config", "explain"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert page.endswith(printed), "write it anew: cah config explain, below its heading"


def test_the_page_of_models_shows_what_the_command_prints():
    command = [sys.executable, "-m", "cah_dask", "models", "list"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"```\n{printed}```\n" in (ROOT / "docs" / "models.md").read_text()


def test_the_commands_of_the_readme_exist():
    text = (ROOT / "README.md").read_text()
    for line in re.findall(r"^cah ((?:\w+ ?)+?)\s+(?:configs/\S+|RUN)", text, re.MULTILINE):
        command = [sys.executable, "-m", "cah_dask", *line.split(), "--help"]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0, line
    for config in re.findall(r"configs/[\w/-]+\.yaml", text):
        assert (ROOT / config).exists(), config
    for target in re.findall(r"^make (\w+)", text, re.MULTILINE):
        assert f"\n{target}:" in (ROOT / "Makefile").read_text(), target
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (ROOT / link).exists(), link
