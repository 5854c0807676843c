"""A small web, its WAT and a tiny CLIP, all made here.  world -> site -> wat -> server -> train."""
