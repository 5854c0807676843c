"""Stage 1 (CPU): archives -> candidates.  sources -> extract -> language -> dedup."""
