"""Stage `evaluate`: the test split, read here for the first time (Table 2)."""

import csv
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from dfwe.data.corpus import Corpus
from dfwe.data.dialogue import Example, fingerprint
from dfwe.execute import Step
from dfwe.lab import Lab
from dfwe.model.decoding import Decoding
from dfwe.model.pretrained import Model, load
from dfwe.recipe import Recipe
from dfwe.stages.interpolate import Interpolate
from dfwe.tasks.task import Task

if TYPE_CHECKING:
    from dfwe.model.scoring import Scores

VERSION = 1


@dataclass(frozen=True)
class Evaluate:
    """Test scores of the baseline, every fine-tuned expert, the uniform average, theta(alpha*)."""

    label: str
    group: str
    baseline: Step
    mixture: Interpolate
    task: Task
    corpus: Corpus
    model: Model
    decoding: Decoding

    stage = "evaluate"

    @property
    def parents(self) -> tuple[Step, ...]:
        return (self.baseline, *self.mixture.experts, self.mixture)

    @cached_property
    def examples(self) -> tuple[Example, ...]:
        return self.task.examples(self.corpus, "test")

    @cached_property
    def recipe(self) -> Recipe:
        settings = {
            "test": fingerprint(self.examples),
            "task": self.task.settings(),
            "decoding": self.decoding.settings(),
            "max_input": self.model.max_input,
        }
        parents = tuple(step.recipe for step in self.parents)
        return Recipe(self.stage, VERSION, settings, parents)

    def run(self, lab: Lab) -> None:
        """Score each model once and commit scores and predictions."""
        began = time.monotonic()
        scores = self._test(lab)
        delta = scores["dfwe"].score - scores["baseline"].score
        run_log = lab.open_log(
            self.recipe, name=f"{self.stage}: {self.label}", group=self.group, folder=lab.output
        )
        try:
            rows = [[name, value.score, *value.metrics.values()] for name, value in scores.items()]
            run_log.tables("test/scores", ["model", "score", *scores["dfwe"].metrics], rows)
            run_log.summary({f"test/{name}": value.score for name, value in scores.items()})
            run_log.summary({"test/delta": delta})
        finally:
            run_log.finish()

        def fill(folder: Path) -> None:
            for name, key in (("predictions", "dfwe"), ("baseline_predictions", "baseline")):
                self._write_predictions(folder / f"{name}.csv", scores[key])

        measured = {
            name: {"score": value.score, "metrics": value.metrics, "loglik": value.loglik}
            for name, value in scores.items()
        }
        lab.store.commit(
            self.recipe, fill, {"test": measured, "seconds": time.monotonic() - began}
        )

    def _test(self, lab: Lab) -> dict[str, "Scores"]:
        from dfwe.callbacks.progress import scoring_bar
        from dfwe.model.batches import evaluation_batches
        from dfwe.model.scoring import evaluate
        from dfwe.weights.layout import flatten
        from dfwe.weights.space import WeightSpace

        experts = self.mixture.experts
        network, tokenizer = load(lab.store.folder(self.mixture.recipe))
        device = lab.trainer(logger=False).strategy.root_device
        flatten(network)
        network.to(device)  # type: ignore[arg-type]
        test = self.model.encode(self.task, self.corpus, "test", tokenizer, lab.tokens)
        batches = [batch.to(device) for batch in evaluation_batches(test)]
        models = {
            "baseline": self.baseline,
            **{step.label: step for step in experts},
            "dfwe": self.mixture,
        }
        # The baseline may be an expert under another label: each model stands here by role.
        folders = [lab.store.weights(step.recipe) for step in models.values()]
        space = WeightSpace.from_pretrained(
            folders, labels=list(models), cache=lab.store.cache("flat")
        )
        alphas = {name: [float(name == other) for other in models] for name in models}
        labels = {step.label for step in experts}
        alphas["uniform"] = [float(name in labels) / len(experts) for name in models]
        scores = {}
        with scoring_bar(f"test {self.label}", len(alphas) * len(batches)) as advance:
            for name, alpha in alphas.items():
                space.write(alpha, network)
                scores[name] = evaluate(
                    network, batches, test, self.task, self.decoding, on_batch=advance
                )
        return scores

    def _write_predictions(self, path: Path, scores: "Scores") -> None:
        """FETA's submission format: instance id and prediction, without a header."""
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            for example, text in zip(self.examples, scores.texts, strict=True):
                writer.writerow([example.id, text])
