"""Archives of the web: where they are, and what they hold, record by record."""
