"""K-fold experts: alpha is searched on answers of experts that have not seen what they answer.

The target's train and dev are split into K folds by dialogue. Experts trained without a fold
answer for it (Stone 1974), and alpha mixes experts trained on all of them (`dfwe.stages.refit`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, ClassVar

from dfwe.data.corpus import Corpus
from dfwe.data.dialogue import Dialogue
from dfwe.errors import UserError
from dfwe.pipeline.step import Run, Settings, Step
from dfwe.search.evaluation import Alpha, Answers
from dfwe.stages.interpolate import Interpolate
from dfwe.stages.refit import Refit
from dfwe.stages.train import Train
from dfwe.statistics.cross_fitting import fold_of
from dfwe.tasks.task import Task
from dfwe.weights.untyped import place

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from dfwe.callbacks.weight_search import Searched
    from dfwe.scoring.scorer import Scores
    from dfwe.weights.space import WeightSpace

FOLDED = ("train", "dev")


@dataclass(frozen=True)
class Folds:
    """A target's train and dev in k folds; each split is divided by itself.

    Args:
        corpus: as the study reads it.
        target: the task.
        k: how many folds.
    """

    corpus: Corpus
    target: Task
    k: int

    @property
    def of(self) -> Mapping[str, int]:
        """Dialogue -> its fold, 0..k-1.

        Raises:
            UserError: a split has fewer dialogues than folds.
        """
        return _fold_of(self)


@lru_cache
def _fold_of(folds: Folds) -> dict[str, int]:
    places: dict[str, int] = {}
    for split in FOLDED:
        examples = folds.target.examples(folds.corpus, split)
        dialogues = len({example.dialogue for example in examples})
        if folds.k > dialogues:
            raise UserError(
                f"{folds.k} folds are more than the {dialogues} dialogues of the {split} split of "
                f"task={folds.target.name}; set controls.k_fold.k=2, or leave that control out."
            )
        for example, fold in zip(examples, fold_of(examples, folds.k).tolist(), strict=True):
            places.setdefault(example.dialogue, fold)  # as in train, if both splits name it
    return places


@dataclass(frozen=True)
class _View:
    """A corpus whose train and dev are arranged by folds."""

    folds: Folds

    @property
    def name(self) -> str:
        return self.folds.corpus.name

    def dialogues(self, split: str, title: str | None = None) -> Sequence[Dialogue]:
        corpus = self.folds.corpus
        return self._arranged(split, title) if split in FOLDED else corpus.dialogues(split, title)

    def labels(self, title: str) -> tuple[str, ...]:
        return self.folds.corpus.labels(title)

    def whole(self) -> Corpus:
        return self.folds.corpus.whole()

    @property
    def of_sources(self) -> "_View":
        return self

    def _arranged(self, split: str, title: str | None) -> Sequence[Dialogue]:
        raise NotImplementedError


@dataclass(frozen=True)
class WithoutFold(_View):
    """Train and dev without a fold's dialogues, whichever task reads them.

    Sources may annotate the same dialogues, and their experts answer for the fold too.
    """

    fold: int

    def _arranged(self, split: str, title: str | None) -> Sequence[Dialogue]:
        every, fold = self.folds.corpus.dialogues(split, title), self.folds.of
        return tuple(dialogue for dialogue in every if fold.get(dialogue.id) != self.fold)


@dataclass(frozen=True)
class Joined(_View):
    """The target's train and dev are one: the dialogues of both, fold by fold."""

    def _arranged(self, split: str, title: str | None) -> Sequence[Dialogue]:
        corpus, fold = self.folds.corpus, self.folds.of
        if title not in (self.folds.target.title, None):
            return corpus.dialogues(split, title)
        every = [dialogue for part in FOLDED for dialogue in corpus.dialogues(part, title)]
        known = [dialogue for dialogue in every if dialogue.id in fold]
        return sorted(known, key=lambda dialogue: fold[dialogue.id])


@dataclass(frozen=True, eq=False)
class KFold(Interpolate):
    """alpha* = argmax over the simplex of the out-of-fold score; it mixes the final experts.

    A candidate mixes, for each fold, the experts that have not seen it; their answers for all
    folds make one score.

    Args:
        experts: trained on all folds, and mixed by alpha*.
        corpus: train and dev are one, fold by fold.
        answering: fold -> the experts trained without it, in the order of `experts`.
        folds: of train and dev.
    """

    answering: tuple[tuple[Step, ...], ...]
    folds: Folds

    kind: ClassVar[str] = "k-fold"

    @property
    def parents(self) -> tuple[Step, ...]:
        return (*self.experts, *(step for steps in self.answering for step in steps))

    def settings(self) -> Settings:
        return {**super().settings(), "folds": [len(positions) for positions in self._positions]}

    def _searched(
        self,
        run: Run,
        space: "WeightSpace",
        network: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
    ) -> "tuple[Searched, int | None]":
        """The search by the answers to all folds, one behind the other."""
        from dfwe.callbacks.weight_search import AnswersSearch, decoding_of
        from dfwe.scoring.scorer import Scorer, scores_of
        from dfwe.weights.layout import flatten

        dev = self._tokenized(run, tokenizer)
        place(network, run.context.device)
        flatten(network)
        with self._followed(run, space.n) as follow, ExitStack() as stack:
            scorers = [
                stack.enter_context(
                    Scorer(
                        network,
                        dev.subset(positions),
                        self.task,
                        decoding_of(self.search, self.decoding, space.n),
                        space=self._space(run, steps),
                        workers=run.context.workers,
                        precisions=self.search.precisions,
                    )
                )
                for positions, steps in zip(self._positions, self.answering, strict=True)
            ]

            def scores(alpha: Alpha, precision: str = "fp32") -> "Scores":
                answers = Answers.join([scorer(alpha, precision).answers for scorer in scorers])
                return scores_of(answers, dev.examples, self.task)

            search = AnswersSearch(
                self.search, space, self.task, dev.examples, self._ledger(run), follow
            )
            return search(scores), dev.tokens

    @property
    def _positions(self) -> list[range]:
        """Fold -> the places of its examples in dev, where one fold stands behind the other."""
        examples = self.task.examples(self.corpus, "dev")
        sizes = Counter(self.folds.of[example.dialogue] for example in examples)
        ends = list(accumulate(sizes[fold] for fold in range(self.folds.k)))
        return [range(start, end) for start, end in pairwise([0, *ends])]


def without_fold(step: Step, folds: Folds, fold: int) -> Step:
    """A training, and those it starts from, without a fold; other steps see no examples."""
    if not isinstance(step, Train):
        return step
    start = step.start and without_fold(step.start, folds, fold)
    return replace(step, corpus=WithoutFold(folds, fold), start=start)


def refit(step: Step, folds: Folds, without: Sequence[Step]) -> Step:
    """A training, and those it starts from, on all folds; other steps see no examples.

    Args:
        step: of the study.
        folds: of the target's train and dev.
        without: the same step without each fold.
    """
    if not isinstance(step, Train):
        return step
    trainings = tuple(training for training in without if isinstance(training, Train))
    starts = [training.start for training in trainings if training.start is not None]
    start = step.start and refit(step.start, folds, starts)
    return Refit(replace(step, corpus=Joined(folds), start=start), trainings)


def k_folds(plain: Interpolate, k: int) -> KFold:
    """A search of a study, over its experts trained k + 1 times.

    Raises:
        UserError: train or dev of the target has fewer dialogues than folds.
    """
    folds = Folds(plain.corpus, plain.task, k)
    answering = tuple(
        tuple(without_fold(step, folds, fold) for step in plain.experts) for fold in range(k)
    )
    experts = [
        refit(step, folds, without)
        for step, without in zip(plain.experts, zip(*answering, strict=True), strict=True)
    ]
    return KFold(
        f"{plain.label}, {k} folds",
        plain.group,
        tuple(experts),
        plain.task,
        Joined(folds),
        plain.model,
        plain.decoding,
        plain.search,
        answering,
        folds,
    )
