"""The graph of steps behind a target task: S*, its experts, fine-tunings, search, evaluation."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from dfwe.errors import UserError
from dfwe.pipeline.deferred import check_part
from dfwe.pipeline.executor import lineage
from dfwe.pipeline.step import Step
from dfwe.pipeline.store import Store
from dfwe.scoring.own_score import OwnScore
from dfwe.search.config import Search
from dfwe.settings import NAME, is_name
from dfwe.stages.evaluate import Evaluate, Evaluation, Key, Test
from dfwe.stages.import_checkpoint import ImportBase, import_checkpoints
from dfwe.stages.interpolate import Interpolate
from dfwe.stages.k_fold import KFold
from dfwe.stages.merge import Base
from dfwe.stages.own_score import InterpolateByScore
from dfwe.stages.pretrain import Pretrain
from dfwe.stages.train import Train
from dfwe.statistics.cross_fitting import fold_of
from dfwe.studies.experiment import Experiment
from dfwe.tasks.task import Task
from dfwe.weights.adapters import read_checkpoint
from dfwe.weights.base import check_base
from dfwe.weights.checkpoint import Checkpoint
from dfwe.weights.preflight import preflight

log = logging.getLogger(__name__)
APART = 1000  # between the seeds of one study's runs: the studies of seeds 0, 1, ... share none


@dataclass(frozen=True)
class EnsemblingStudy(Experiment):
    """An experiment whose experts, or checkpoints that a person brings, are mixed.

    Args:
        search: how alpha is searched.
        checkpoints: folders, Hub ids or adapters, to be mixed instead of experts trained here.
        base: what the checkpoints were fine-tuned from, for what starts there: merges of task
            vectors, `search.experts=[theta_0]`.
        score: a person's own of a model, in place of the task's: neither task nor corpus is read.
        controls: name -> from the plan to the step whose weights contend
            (`dfwe.studies.ensembling.controls`).
        landscapes: name -> from the plan to a search over three experts, to be drawn.
    """

    search: Search
    checkpoints: tuple[str, ...] = ()
    base: str | None = None
    score: OwnScore | None = None
    controls: Mapping[str, "Control"] = field(default_factory=dict[str, "Control"])
    landscapes: Mapping[str, "Landscape"] = field(default_factory=dict[str, "Landscape"])

    def __post_init__(self) -> None:
        object.__setattr__(self, "checkpoints", tuple(self.checkpoints))
        for key, parts in (("controls", self.controls), ("landscapes", self.landscapes)):
            for name, part in parts.items():
                if not is_name(name):
                    raise UserError(f"{key} has the name '{name}', which should be {NAME}.")
                check_part(f"{key}.{name}", part)
        places = {Path(name).expanduser().resolve() for name in self.checkpoints}
        if len(places) < len(self.checkpoints):
            raise UserError(
                f"checkpoints={list(self.checkpoints)} contains a duplicate; name each once."
            )
        if self.base is not None and not self.checkpoints:
            raise UserError(
                f"base={self.base} is what checkpoints=[...] were fine-tuned from; name those, or "
                "the model that trainings here start from by model.path=."
            )
        if self.score is not None and not self.checkpoints:
            raise UserError(
                f"score={self.score.path} is searched over models that exist; name them: "
                "checkpoints=[a,b]."
            )
        if self.checkpoints and "longer" in self.search.experts:
            raise UserError(
                "search.experts=[longer] is trained here; with checkpoints=[...] name such a "
                "model there."
            )
        if not self.sources and not self.checkpoints:
            raise UserError(
                f"There is no source task for {self.task.name}; name at least one: "
                "sources.list=[a,b,c]."
            )
        if self.checkpoints and self.model.max_input is None:
            with suppress(UserError):  # of what cannot be read: the preflight says so
                config = read_checkpoint(self.checkpoints[0]).config
                model = replace(self.model, max_input=self.model.limit_of(config))
                object.__setattr__(self, "model", model)
        super().__post_init__()

    @property
    def measured_by(self) -> str:
        """What a model is good at here: the task, or a person's own score."""
        return self.task.name if self.score is None else self.score.name

    @property
    def measured_on(self) -> str:
        """Where that comes from: the corpus, or the score's module."""
        return self.corpus.name if self.score is None else self.score.path

    @property
    def group(self) -> str:
        return f"{self.measured_by}-seed{self.seed}"


@dataclass(frozen=True)
class Method:
    """A model in the comparison, and where its test score stands.

    Args:
        name: what tables call it.
        step: the step whose weights it has; for a vote, the vote itself.
        test: the step that tested it.
        key: which of the models of `test` it is.
    """

    name: str
    step: Step
    test: Evaluation
    key: Key


@dataclass(frozen=True)
class Plan:
    """The steps of DFWE for a study, parents first."""

    study: EnsemblingStudy

    @property
    def pretraining(self) -> Pretrain | None:
        """The step that pretrains the base model, if it is pretrained here."""
        return None if self.study.checkpoints else self.study.pretraining

    @cached_property
    def experts(self) -> tuple[Train, ...]:
        """One expert for each set of S* = {t, {t} u S, s1, ..., sn}; none where a person brings
        checkpoints."""
        study, target = self.study, self.study.task
        if study.checkpoints:
            return ()
        sets = [(target,), (target, *study.sources), *((source,) for source in study.sources)]
        return tuple(
            self._train("experts", tasks, self._monitor(tasks), number)
            for number, tasks in enumerate(sets)
        )

    @cached_property
    def finetuned(self) -> tuple[Step, ...]:
        """Each expert, fine-tuned on the target; or the checkpoints that a person brings."""
        if self.study.checkpoints:
            return import_checkpoints(self.study.checkpoints)
        target = self.study.task
        return tuple(
            self._train("finetune", (target,), target, number, expert)
            for number, expert in enumerate(self.experts)
        )

    @property
    def longer(self) -> Train:
        """Fine-tuning alone, for the epochs of both stages and without stopping early."""
        training = self.study.training
        return replace(
            self.experts[0],
            label="longer",
            training=replace(
                training,
                epochs=2 * training.epochs,
                steps_at_least=2 * training.steps_at_least,
                patience=None,
            ),
        )

    @property
    def base(self) -> Base:
        """The pretrained model, with the head that trainings start from."""
        study = self.study
        return Base(
            study.group, study.task, study.corpus, study.model, study.seed, self.pretraining
        )

    @cached_property
    def theta_0(self) -> Base | ImportBase:
        """What the fine-tuned experts, or the checkpoints that a person brings, started from.

        Raises:
            UserError: a person brings checkpoints and does not name it.
        """
        study = self.study
        if not study.checkpoints:
            return self.base
        if study.base is None:
            raise UserError(
                "Merges of task vectors and search.experts=[theta_0] start from what the "
                "checkpoints were fine-tuned from; name it: base=FOLDER, or a Hub id."
            )
        return ImportBase(study.base, import_checkpoints(study.checkpoints))

    @cached_property
    def members(self) -> tuple[Step, ...]:
        """What is mixed: the fine-tuned experts, then those of `search.experts`."""
        further = (
            self.longer if name == "longer" else self.theta_0 for name in self.study.search.experts
        )
        return (*self.finetuned, *further)

    @property
    def baseline(self) -> Step:
        """What the result is compared with: fine-tuning alone, or the first checkpoint brought."""
        return (*self.experts, *self.finetuned)[0]

    @cached_property
    def interpolation(self) -> Interpolate:
        """The search for alpha* over the fine-tuned experts."""
        study = self.study
        given = (
            *(study.measured_by, study.group, self.members, study.task),
            *(study.corpus, study.model, study.decoding, study.search),
        )
        if study.score is not None:
            return InterpolateByScore(*given, study.score)
        return Interpolate(*given)

    @cached_property
    def evaluation(self) -> Evaluate:
        """Test scores."""
        study = self.study
        return Evaluate(
            study.measured_by,
            study.group,
            self.baseline,
            self.interpolation,
            study.task,
            study.corpus,
            study.model,
            study.decoding,
            score=study.score,
        )

    @cached_property
    def methods(self) -> tuple[Method, ...]:
        """Fine-tuning alone, the uniform average, two other choices of the search's trials, the
        controls that apply, DFWE.
        """
        mixture, test = self.interpolation, self.evaluation
        methods = [
            Method("baseline", self.baseline, test, "baseline"),
            Method("uniform", mixture, test, "uniform"),
            Method("one_standard_error", mixture, test, "one_standard_error"),
            Method("likeliest", mixture, test, "likeliest"),
        ]
        for name, build in self.study.controls.items():
            step = build(self)
            if step is None:
                log.info("%s does not apply to %s here.", name, self.study.measured_by)
                continue
            step = _step(f"controls.{name}", step)
            methods.append(Method(name, step, *self._test_of(step)))
        return (*methods, Method("dfwe", mixture, test, "mixture"))

    @cached_property
    def drawn(self) -> tuple[Step, ...]:
        """The searches that show the landscape between three experts."""
        landscapes = self.study.landscapes.items()
        return tuple(_step(f"landscapes.{name}", build(self)) for name, build in landscapes)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """All steps; the tests come last, and may come twice: what makes them equal, their
        recipe, has the test split's digest, which nothing may read before."""
        first = () if self.pretraining is None else (self.pretraining,)
        tests = (self.evaluation, *(method.test for method in self.methods))
        tested = [
            step for test in tests for step in test.parents if not isinstance(step, Evaluation)
        ]
        untested = (*first, *self.experts, *self.members, self.interpolation, *tested)
        unique = {step: step for last in (*untested, *self.drawn) for step in lineage(last)}
        return (*unique, *tests)

    def _test_of(self, step: Step) -> tuple[Evaluation, Key]:
        """The step that tests a control, and which of its models the control is."""
        if isinstance(step, Evaluation):  # a vote, or a model with a test of its own
            return step, "model"
        known: dict[Step, Key] = dict(zip(self.members, range(len(self.members)), strict=True))
        known |= {self.baseline: "baseline", self.interpolation: "mixture"}
        if step in known:
            return self.evaluation, known[step]
        study = self.study
        if isinstance(step, KFold):  # its experts are tested too
            return replace(self.evaluation, baseline=step.experts[0], mixture=step), "mixture"
        test = Test(
            step.label,
            study.group,
            step,
            study.task,
            study.corpus,
            study.model,
            study.decoding,
            score=study.score,
        )
        return test, "model"

    def check(self, store: Store, stages: Collection[str] = ()) -> None:
        """Refuse before any work what can be known to fail, not after hours of it.

        Checkpoints that a person brings are reported on, unless they were mixed before.

        Args:
            store: where results are.
            stages: that the call computes.

        Raises:
            UserError: the model cannot answer a task, or not by this decoding; its tokenizer
                cannot write the labels; a metric does not compare such answers; a search refuses
                its settings; a training split is smaller than an optimizer step; there are more
                folds than dialogues; the checkpoints do not fit together, or are no `model` of
                this kind.
        """
        study = self.study
        if (own := study.score) is None:
            for task in (study.task, *study.sources):
                study.model.check_task(task, study.corpus)
            study.decoding.check(study.task, study.corpus)
        elif "evaluate" in stages and not own.takes_split:
            raise UserError(
                f"score={own.path} takes no split=, so that what is searched would be the test "
                "too; give stage=interpolate, or let the function take split, 'dev' or 'test'."
            )
        start: Sequence[Checkpoint] = ()  # what all that is scored is made of, where it is there
        if study.model.path is not None and not study.checkpoints:
            start = [read_checkpoint(study.model.folder)]
            study.model.check_length(start[0].folder, start[0].config)
        if study.search.folds is not None and own is None:
            fold_of(study.task.examples(study.corpus, "dev"), study.search.folds)
        if study.checkpoints:
            start = self._check_checkpoints(store)
        for step in self.steps:
            if isinstance(step, Interpolate) and step.recipe not in store:
                step.check()
            if isinstance(step, Train):
                step.check()
        if own is None and self.interpolation.recipe not in store:
            self._check_answers(start)

    def _check_checkpoints(self, store: Store) -> Sequence[Checkpoint]:
        """The checkpoints that a person brings, unless they were mixed before."""
        study = self.study
        if len(study.checkpoints) == 1:
            raise UserError(
                f"checkpoints={list(study.checkpoints)} names one, and mixing needs at least two."
            )
        with suppress(UserError):  # the report names all that cannot be read, not one
            if self.interpolation.recipe in store:
                return ()
        report = preflight(study.checkpoints, store.cache("flat"))
        if report.problems:
            first, *others = report.problems  # the first is the sentence that the run ends with
            log.info("\n".join([report.table, *(f"PROBLEM  {other}" for other in others)]))
            raise UserError(first)
        log.info("%s", report)
        for one in report.checkpoints if study.score is None else ():
            study.model.fits(one.checkpoint, one.config, study.task, study.corpus)
        if study.base is not None:
            first = report.checkpoints[0]
            check_base(study.base, study.checkpoints[0], first.row.layout)
        return [one.checkpoint for one in report.checkpoints]

    def _check_answers(self, start: Sequence[Checkpoint]) -> None:
        """Check that models can write the answers that are scored."""
        study, monitors = self.study, [step.monitor for step in self.experts]
        if start:
            tasks = list(dict.fromkeys((study.task, *monitors)))
            study.model.check_answers(start, tasks, study.corpus, study.decoding)

    def _monitor(self, tasks: tuple[Task, ...]) -> Task:
        """The task whose dev score selects the epoch: the target, in the paper.

        With `training.monitor=own`, a source's expert has its source, and targets can share it.
        """
        target = self.study.task
        if self.study.training.monitor == "target" or target in tasks:
            return target
        return tasks[0]

    def _train(
        self,
        stage: str,
        tasks: tuple[Task, ...],
        monitor: Task,
        number: int,
        expert: Train | None = None,
    ) -> Train:
        study = self.study
        apart = APART * number if study.training.noise == "own" else 0
        label = expert.label if expert else tasks[0].name + "+sources" * (len(tasks) > 1)
        return Train(
            stage,
            label,
            study.group,
            tasks,
            monitor,
            study.corpus,
            study.model,
            study.training,
            study.decoding,
            study.seed + apart,
            study.device,
            expert or self.pretraining,
            head=study.seed if apart else None,
        )


Control = Callable[[Plan], object]  # a step; None where it does not apply to this study
Landscape = Callable[[Plan], object]  # a step


def _step(key: str, made: object) -> Step:
    """What a function of the configuration makes of the plan."""
    if not isinstance(made, Step):
        raise UserError(
            f"{key} gives a {type(made).__name__} where a step is needed; name a function from "
            "the plan to a step."
        )
    return made
