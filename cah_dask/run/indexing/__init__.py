"""The job of `cah index`: archives and CDX files -> where the records of each url are."""
