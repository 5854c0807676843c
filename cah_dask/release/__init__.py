"""Stage 4 (CPU): pairs -> what others use.  verify, report, data card."""
