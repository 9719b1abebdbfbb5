"""Test scores of a single model, and of the vote of several (part of stage `evaluate`)."""

import time
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from dfwe.data.corpus import Corpus
from dfwe.data.dialogue import Example
from dfwe.errors import UserError
from dfwe.execute import Step
from dfwe.lab import Lab
from dfwe.model.decoding import Decoding
from dfwe.model.pretrained import Model
from dfwe.recipe import Recipe
from dfwe.stages.evaluate import ANSWERS, Evaluate, read_answers, test_model, write_answers
from dfwe.tasks.task import Task

VERSION = 1
ROLE = "model"  # the one model's name in scores and answers


@dataclass(frozen=True)
class Test:
    """One model's test score and answers."""

    label: str
    group: str
    made: Step
    task: Task
    corpus: Corpus
    model: Model
    decoding: Decoding

    stage = "evaluate"
    __test__ = False  # no test class of pytest's

    @property
    def parents(self) -> tuple[Step, ...]:
        return (self.made,)

    @cached_property
    def examples(self) -> tuple[Example, ...]:
        return self.task.examples(self.corpus, "test")

    @cached_property
    def recipe(self) -> Recipe:
        settings = self.model.scoring(self.task, self.corpus, "test", self.decoding)
        return Recipe("test", VERSION, settings, (self.made.recipe,))

    def run(self, lab: Lab) -> None:
        began = time.monotonic()
        with lab.log(self.recipe, self.label, self.group) as run_log:
            scores = test_model(self, lab, lab.store.weights(self.made.recipe))
            run_log.summary({f"test/{ROLE}": scores.score})
        measured = {"score": scores.score, "metrics": scores.metrics, "loglik": scores.loglik}
        lab.store.commit(
            self.recipe,
            lambda folder: write_answers(folder / ANSWERS, self.examples, {ROLE: scores.texts}),
            {"test": {ROLE: measured}, "seconds": time.monotonic() - began},
        )


@dataclass(frozen=True)
class Vote:
    """The fine-tuned experts' most frequent answer; ties go to the better on dev.

    It runs n + 2 models where the others run one: a costly reference, not a contender.
    """

    evaluation: Evaluate

    stage = "evaluate"
    label = "vote"

    @property
    def parents(self) -> tuple[Step, ...]:
        return (self.evaluation,)

    @cached_property
    def recipe(self) -> Recipe:
        return Recipe("vote", VERSION, {}, (self.evaluation.recipe,))

    def run(self, lab: Lab) -> None:
        step = self.evaluation
        folder = lab.store.folder(step.recipe)
        answers = read_answers(folder / ANSWERS)
        if not answers:
            raise UserError(
                f"{folder} was made before answers were kept; delete it, and "
                "`stage=evaluate` makes it again."
            )
        dev = {e.label: lab.store.scores(e.recipe)["dev"]["score"] for e in step.mixture.experts}
        ranked = sorted(dev, key=lambda label: -dev[label])
        rows = zip(*(answers[label] for label in ranked), strict=True)
        texts = tuple(Counter(row).most_common(1)[0][0] for row in rows)
        metrics = step.task.score(texts, step.examples)
        measured = {"score": metrics.pop("score"), "metrics": metrics}
        with lab.log(self.recipe, self.label, step.group) as run_log:
            run_log.summary({f"test/{ROLE}": measured["score"]})
        lab.store.commit(
            self.recipe,
            lambda path: write_answers(path / ANSWERS, step.examples, {ROLE: texts}),
            {"test": {ROLE: measured}},
        )
