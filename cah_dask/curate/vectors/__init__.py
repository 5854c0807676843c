"""Vectors of a pool: which centroid is nearest, where centroids come from, near duplicates."""
