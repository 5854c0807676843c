"""What runs on a worker of a crawl: read committed files, call a stage, commit one new part.

The functions here know files and receipts; the stages they call, in the packages that their modules
are named after, know neither.
"""
