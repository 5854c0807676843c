#!/usr/bin/env bash
# The driver of a run as a Slurm job:  sbatch slurm/launch.sh configs/mine.yaml [--set key=value ...]
# or of another job:              sbatch slurm/launch.sh verify RELEASE --config configs/mine.yaml
# It holds the Dask scheduler, submits the worker jobs that the config's pools ask for, and goes on
# where it stood when it runs again. Submit it from the folder that holds slurm and configs: a checkout, or one
# that `cah init` wrote. Options of sbatch before the script (sbatch -p small -A project slurm/launch.sh ...)
# overrule the lines below.
#SBATCH --job-name=cah-driver
# one node, a scheduler and a driver
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
# it requeues itself when this time ends; your partition may allow more or less
#SBATCH --time=24:00:00
# tell this script 300 s before the end, so that running tasks can commit
#SBATCH --signal=B:USR2@300
# go on after the end of the time, a preemption or a lost node, and keep the log
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=cah-driver-%j.out
set -euo pipefail

usage="in the folder that holds slurm and configs: sbatch slurm/launch.sh configs/mine.yaml"
cd "${SLURM_SUBMIT_DIR:?submit this script $usage}"
if [ ! -f slurm/env.sh ] || [ $# = 0 ]; then
  echo "submit this script $usage (this is $PWD, arguments: ${*:-none})" >&2
  exit 2
fi
ulimit -c 0  # a core dump of torch takes gigabytes
export CAH_LAUNCH="$PWD/slurm/launch.sh"
# shellcheck source=slurm/env.sh
. slurm/env.sh

read -ra python <<<"${CAH_PYTHON:-python}"
case "$1" in
  verify | filter | redact | join | diff | import | index | classify | cluster | near-duplicates) ;;
  *) set -- run "$@" ;;
esac
"${python[@]}" -m cah_dask "$@" &
driver=$!
# bash runs a trap only between commands, so the driver is in the background and bash waits
trap 'kill -USR2 "$driver"' USR2
trap 'kill -TERM "$driver"' TERM

# a trap interrupts `wait`, not the driver; waiting once more returns how it ended
while kill -0 "$driver" 2>/dev/null; do
  wait "$driver" || true
done
wait "$driver"
