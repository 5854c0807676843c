from tests.release.small_run import run_dir, summary

__all__ = ["run_dir", "summary"]
