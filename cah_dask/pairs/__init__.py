"""Stage 3 (GPU): image shards -> embeddings and pairs.  models -> embed -> store."""
