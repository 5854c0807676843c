"""Care for published releases: rows taken out, columns added, two of them compared."""
