"""A Hydra sweeper that asks for each run's score, as Optuna's and Ax's do."""

import json
from pathlib import Path

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from omegaconf import OmegaConf


class ScoresSweeper(Sweeper):
    """Runs one job after the other and writes what each returns into `scores.json`."""

    def __init__(self, tries, max_batch_size=None, params=None):
        """The last two are the keys of Hydra's own sweeper, which cannot be deleted where null."""
        self.tries = tries

    def setup(self, *, hydra_context, task_function, config):
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments):
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        scores = []
        for number, tried in enumerate(self.tries):
            (run,) = self.launcher.launch([[*arguments, tried]], initial_job_idx=number)
            scores.append(float(run.return_value))
        Path("scores.json").write_text(json.dumps(scores))
