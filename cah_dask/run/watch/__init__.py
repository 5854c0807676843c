"""What a person is told of a run: one set of figures for page, terminal and metrics."""
