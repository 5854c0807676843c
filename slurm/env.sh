# shellcheck shell=bash
# Makes a python with cah_dask available inside a job; sourced by launch.sh and, where a pool's `prologue` says
# so, by worker jobs. What your site needs goes into slurm/site.env (see site.example.env), not in here.

if [ -f slurm/site.env ]; then
  # shellcheck source=slurm/site.example.env
  . slurm/site.env
fi
_cah_missing() {
  echo "slurm/site.env: $1" >&2
  exit 2
}

if [ -n "${CAH_MODULES:-}" ]; then
  command -v module >/dev/null || _cah_missing "CAH_MODULES is set, but there is no command 'module' on $(hostname)"
  read -ra modules <<<"$CAH_MODULES"
  module load "${modules[@]}"
fi
if [ -n "${CAH_CONDA_ENV:-}" ]; then
  command -v conda >/dev/null || _cah_missing "CAH_CONDA_ENV is set, but there is no command 'conda' on $(hostname)"
  # shellcheck source=/dev/null
  . "$(conda info --base)/etc/profile.d/conda.sh"
  conda activate "$CAH_CONDA_ENV"
elif [ -n "${CAH_VENV:-}" ] && [ ! -f "$CAH_VENV/bin/activate" ]; then
  _cah_missing "CAH_VENV is $CAH_VENV, where no virtual environment is"
elif [ -f "${CAH_VENV:-.venv}/bin/activate" ]; then
  # shellcheck source=/dev/null
  . "${CAH_VENV:-.venv}/bin/activate"
fi
# compute nodes often have no way out: models come from a local path or the cache
export HF_HUB_OFFLINE="${HF_HUB_OFFLINE:-1}"
# thread pools of numerical libraries in the driver would only fight for its two processors
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
