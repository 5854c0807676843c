"""Stage 2 (CPU and network): candidates -> image shards.  manners -> web -> picture -> shards."""
