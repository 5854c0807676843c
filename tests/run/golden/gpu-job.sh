#!/usr/bin/env bash

#SBATCH -J cah-76ae48a2-gpu-1
#SBATCH -p accel
#SBATCH -A mine
#SBATCH -n 1
#SBATCH --cpus-per-task=32
#SBATCH --mem=256G
#SBATCH -t 1-12:00:00
#SBATCH --no-requeue
#SBATCH --nodes=1
#SBATCH --output="/scratch/me/a run/jobs/%x-%j.out"
#SBATCH --open-mode=append
#SBATCH --qos=long
#SBATCH --constraint=nvme
#SBATCH --gres=gpu:a100:4
#SBATCH --exclusive
module load cuda
ulimit -c 0  # a core dump of torch takes gigabytes
export OMP_NUM_THREADS=8
export MKL_NUM_THREADS=8
export CAH_DRAIN_S=120
export CAH_JOB_END="${SLURM_JOB_END_TIME:-$(($(date +%s) - SECONDS + 129600))}"
exec apptainer exec --nv cah.sif python3 -m distributed.cli.dask_worker tls://the-driver --name gpu-1 --nthreads 2 --memory-limit 0 --nworkers 4 --nanny --death-timeout 60 --local-directory "${TMPDIR:-/tmp}" --tls-ca-file '/scratch/me/a run/secrets/UID/cert.pem' --tls-cert '/scratch/me/a run/secrets/UID/cert.pem' --tls-key '/scratch/me/a run/secrets/UID/key.pem' --resources GPU=2 --preload cah_dask.run.cluster.worker --dashboard-address 127.0.0.1:0 --no-dashboard
