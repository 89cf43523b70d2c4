"""Where the figures of a training go beside metrics.jsonl: a module for each, named in `train.callbacks`."""

from hardgnn.training.loggers import mlflow, tensorboard, wandb

__all__ = ["mlflow", "tensorboard", "wandb"]
