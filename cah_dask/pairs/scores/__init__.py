"""Numbers that say of a picture, a vector or a text what it may be, and rules that drop by them."""
