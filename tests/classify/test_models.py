"""The models of the package: what they score, and what they refuse in one line."""

LONG = "red " * 300
