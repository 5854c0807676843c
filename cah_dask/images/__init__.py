"""Stage 2 (CPU and network): candidates -> image shards.  fetch -> decode -> shards -> download."""
