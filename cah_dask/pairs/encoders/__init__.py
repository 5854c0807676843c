"""Models: what turns images and texts into vectors of one space."""
