"""Stage 4 (CPU): pairs -> what others use.  report, data card."""
