"""Settings and figures for MLflow, kept where its own variables say: `mlflow.db` of the working folder by default."""

from __future__ import annotations

from collections.abc import Mapping

from hardgnn.training.callbacks import callback
from hardgnn.training.loggers.base import Logger

LONGEST = 500  # characters of a parameter that every store of MLflow takes


@callback("mlflow")
class MLflow(Logger):
    """A run of MLflow: the settings are its parameters, every figure of every epoch is a metric.

    Where it is kept, and in which experiment, say `MLFLOW_TRACKING_URI`, `MLFLOW_EXPERIMENT_NAME` and its functions. A
    run that the program has begun is taken, and left open. Its names have no @: `ndcg@10` is `ndcg_at_10` there.
    """

    library = "mlflow"
    modules = ("sqlalchemy", "alembic")  # of the store on this machine, which mlflow-skinny leaves out

    def open(self) -> None:
        """Begins the run."""
        import mlflow

        self.ours = mlflow.active_run() is None
        earlier = self.earlier() if self.ours else None
        if self.ours:
            run = mlflow.start_run(run_id=earlier, run_name=self.name or None)
            self.keep(run.info.run_id)
        if earlier is None:
            mlflow.log_params({key: str(value)[:LONGEST] for key, value in self.settings.items()})

    def write(self, figures: Mapping[str, float], epoch: int) -> None:
        """Writes them as metrics."""
        import mlflow

        mlflow.log_metrics({name.replace("@", "_at_"): value for name, value in figures.items()}, step=epoch)

    def conclude(self, best: Mapping[str, float]) -> None:
        """Writes it as metrics of the last epoch."""
        self.write(best, self.trainer.progress.epoch)

    def shut(self) -> None:
        """Ends the run as finished or killed."""
        import mlflow

        if self.ours:
            mlflow.end_run("FINISHED" if self.whole else "KILLED")
