"""What a run is told: options, where they come from, and which of them a run is known by."""
