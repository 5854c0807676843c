"""Predicates over stored vectors: nearest centroids, near duplicates."""
