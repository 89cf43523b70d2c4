"""From a raw log to a data set: filter, split, candidates; download and simulation."""

from hardgnn.data.dataset import Dataset
from hardgnn.data.log import InteractionLog
from hardgnn.prepare.pipeline import prepare_log
from hardgnn.prepare.settings import PrepareConfig

__all__ = ["Dataset", "InteractionLog", "PrepareConfig", "prepare_log"]
