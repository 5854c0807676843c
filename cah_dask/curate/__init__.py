"""What people choose from a pool of pairs: filters, their results, clusters, new releases."""
