"""Records of archives through a model of one's own: read, prepare, score, keep."""
