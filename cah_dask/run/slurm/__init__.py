"""Slurm as text: options and scripts in, answers out, and what follows from them."""
