"""A small web of drawn pictures, its WATs, a tiny CLIP, and one run of the job over them.

world -> captions | pictures -> plants -> planting -> site; wat and server show the site to a run;
demo -> verdict. The model: train -> card -> exam.
"""
