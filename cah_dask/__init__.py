"""Common Crawl archives -> image-text datasets.  candidates -> images -> pairs -> release."""

__version__ = "0.1.0"
