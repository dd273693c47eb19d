"""`torch-model-archiver` from Python, under its old names; MarServe's archiver does the work."""

from model_archiver.model_archiver import ModelArchiver
from model_archiver.model_archiver_config import ModelArchiverConfig

__all__ = ["ModelArchiver", "ModelArchiverConfig"]
