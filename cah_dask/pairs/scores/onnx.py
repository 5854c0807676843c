"""A model in ONNX's format, opened with onnxruntime."""

from pathlib import Path
from typing import Any

CUDA = "CUDAExecutionProvider"


def session(path: Path, *, device: str, threads: int) -> Any:
    """Return an `onnxruntime.InferenceSession`, on a GPU where it was built for one.

    Parameters
    ----------
    device
        `cpu`; anything else is a GPU if there is one.

    Raises
    ------
    Exception
        Of onnxruntime's own, if it cannot read or run the file.
    """
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 4  # what is wrong is raised, too
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    wanted = ["CPUExecutionProvider"]
    if device != "cpu":
        wanted.insert(0, CUDA)
    known = onnxruntime.get_available_providers()
    return onnxruntime.InferenceSession(
        str(path), settings, [each for each in wanted if each in known]
    )
