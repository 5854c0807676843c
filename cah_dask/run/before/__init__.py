"""What a person asks before a run: is all well, and what will it take."""
