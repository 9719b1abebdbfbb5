"""The graph of steps behind a target task: S*, its experts, fine-tunings, search, evaluation."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from dfwe.data.corpus import Corpus
from dfwe.errors import UserError, check_whole
from dfwe.execute import Step
from dfwe.model.decoding import Decoding
from dfwe.model.fit import Fit
from dfwe.model.pretrained import Model
from dfwe.proposals.settings import Search
from dfwe.stages.bring import ROLES, bring
from dfwe.stages.evaluate import Evaluate
from dfwe.stages.interpolate import Interpolate
from dfwe.stages.pretrain import Pretrain
from dfwe.stages.test import ROLE, Test
from dfwe.stages.train import Train
from dfwe.store import Store
from dfwe.tasks.crossfit import fold_of
from dfwe.tasks.task import Task
from dfwe.weights.preflight import preflight

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Study:
    """What decides the result for one target task: the composed configuration as objects.

    Args:
        checkpoints: a person's own, to be mixed instead of experts made here.
        controls: name -> from the plan to the step whose weights contend (`dfwe.controls`).
        landscapes: name -> from the plan to a search over three experts, to be drawn.
    """

    corpus: Corpus
    task: Task
    sources: tuple[Task, ...]
    model: Model
    decoding: Decoding
    fit: Fit
    search: Search
    seed: int
    checkpoints: tuple[str, ...] = ()
    controls: Mapping[str, "Control"] = field(default_factory=dict)
    landscapes: Mapping[str, "Control"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_whole("seed", self.seed)
        names = [source.name for source in self.sources]
        object.__setattr__(self, "checkpoints", tuple(self.checkpoints))
        places = {Path(name).expanduser().resolve() for name in self.checkpoints}
        if len(places) < len(self.checkpoints):
            raise UserError(
                f"checkpoints={list(self.checkpoints)} names one twice; name each once."
            )
        if self.checkpoints and (self.controls or self.landscapes):
            raise UserError(
                "Controls train models of their own, which checkpoints=[...] leaves no room for; "
                "leave experiment=controls or checkpoints out."
            )
        if not names and not self.checkpoints:
            raise UserError(
                "sources.list is empty; name at least one source task (a task without "
                "a file in conf/sources/: sources.list=[a,b,c])."
            )
        if self.task.name in names:
            raise UserError(
                f"The source '{self.task.name}' is the target task itself; leave it out of "
                f"sources.list={names}, or choose another target by task=."
            )
        if len(set(names)) < len(names):
            raise UserError(f"sources.list={names} names a task twice; name each once.")
        if taken := ROLES & {self.task.name, *names}:
            raise UserError(
                f"A task cannot have the name '{min(taken)}', which results give to "
                "another model; set another name= in its conf/task/."
            )
        self.model.check(self.decoding, self.fit)

    @property
    def group(self) -> str:
        """How runs are grouped in the logger: target and seed."""
        return f"{self.task.name}-seed{self.seed}"


@dataclass(frozen=True)
class Contender:
    """A model in the comparison, and where its test score stands.

    Args:
        made: the step whose weights it has; for a vote, the vote itself.
        tested: the step whose `test` has its score under `role`.
    """

    name: str
    made: Step
    tested: Step
    role: str


@dataclass(frozen=True)
class Plan:
    """The steps of DFWE for a study, parents first."""

    study: Study

    @cached_property
    def pretraining(self) -> Pretrain | None:
        """The step that makes the base model, if it is made here."""
        study = self.study
        if study.model.pretraining is None or study.checkpoints:
            return None
        return Pretrain(study.model, study.corpus)

    @cached_property
    def experts(self) -> tuple[Train, ...]:
        """One expert for each set of S* = {t, {t} u S, s1, ..., sn}; none where a person brings
        checkpoints."""
        study, target = self.study, self.study.task
        if study.checkpoints:
            return ()
        sets = [(target,), (target, *study.sources), *((source,) for source in study.sources)]
        return tuple(self._train("experts", tasks, self._monitor(tasks)) for tasks in sets)

    @cached_property
    def finetuned(self) -> tuple[Step, ...]:
        """Each expert, fine-tuned on the target; or the checkpoints that a person brings."""
        if self.study.checkpoints:
            return bring(self.study.checkpoints)
        target = self.study.task
        return tuple(self._train("finetune", (target,), target, expert) for expert in self.experts)

    @property
    def baseline(self) -> Step:
        """What the result is compared with: fine-tuning alone, or the first checkpoint brought."""
        return (*self.experts, *self.finetuned)[0]

    @cached_property
    def interpolation(self) -> Interpolate:
        """The search for alpha* over the fine-tuned experts."""
        study = self.study
        return Interpolate(
            study.task.name,
            study.group,
            self.finetuned,
            study.task,
            study.corpus,
            study.model,
            study.decoding,
            study.search,
        )

    @cached_property
    def evaluation(self) -> Evaluate:
        """Test scores."""
        study = self.study
        return Evaluate(
            study.task.name,
            study.group,
            self.baseline,
            self.interpolation,
            study.task,
            study.corpus,
            study.model,
            study.decoding,
        )

    @cached_property
    def contenders(self) -> tuple[Contender, ...]:
        """Fine-tuning alone, the uniform average, the plainest of the best, the controls, DFWE."""
        own = {
            id(self.baseline): "baseline",
            id(self.interpolation): "dfwe",
            **{id(step): step.label for step in self.finetuned},
        }
        found = [
            Contender("baseline", self.baseline, self.evaluation, "baseline"),
            Contender("uniform", self.interpolation, self.evaluation, "uniform"),
            Contender(
                "one_standard_error", self.interpolation, self.evaluation, "one_standard_error"
            ),
        ]
        for name, build in self.study.controls.items():
            made = build(self)
            if id(made) in own:
                tested, role = self.evaluation, own[id(made)]
            else:
                tested, role = self._tested(made), ROLE
            found.append(Contender(name, made, tested, role))
        return (*found, Contender("dfwe", self.interpolation, self.evaluation, "dfwe"))

    @cached_property
    def drawn(self) -> tuple[Step, ...]:
        """The searches that show the landscape between three experts."""
        return tuple(build(self) for build in self.study.landscapes.values())

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        first = () if self.pretraining is None else (self.pretraining,)
        own = (*first, *self.experts, *self.finetuned, self.interpolation, self.evaluation)
        more = (*(contender.tested for contender in self.contenders), *self.drawn)
        return tuple({id(step): step for last in (*own, *more) for step in lineage(last)}.values())

    def _tested(self, made: Step) -> Step:
        study = self.study
        if made.stage == "evaluate":  # a vote has its score already
            return made
        return Test(
            made.label, study.group, made, study.task, study.corpus, study.model, study.decoding
        )

    def check(self, store: Store) -> None:
        """What can be known before any work, so that no mistake is told after hours of it.

        Checkpoints that a person brings are reported on, unless they were mixed before.

        Raises:
            UserError: the model cannot answer a task; a search refuses its settings; there are
                more folds than dialogues; the checkpoints do not fit together, or are no `model`
                of this kind.
        """
        study = self.study
        for task in (study.task, *study.sources):
            study.model.check_task(task, study.corpus)
        if study.model.path is not None and not study.checkpoints:
            study.model.check_length(study.model.folder)
        if study.search.folds is not None:
            fold_of(study.task.examples(study.corpus, "dev"), study.search.folds)
        if study.checkpoints:
            self._check_checkpoints(store)
        for step in self.steps:
            if isinstance(step, Interpolate) and step.recipe not in store:
                step.search.check(len(step.experts))

    def _check_checkpoints(self, store: Store) -> None:
        study = self.study
        if len(study.checkpoints) == 1:
            raise UserError(
                f"checkpoints={list(study.checkpoints)} names one; name two or more to mix."
            )
        with suppress(UserError):  # the report names all that cannot be read, not one
            if self.interpolation.recipe in store:
                return
        report = preflight(study.checkpoints, store.cache("flat"))
        log.info("%s", report)
        if report.problems:
            raise UserError(report.problems[0])
        for checkpoint in report.checkpoints:
            study.model.fits(checkpoint.source, study.task, study.corpus)

    def _monitor(self, tasks: tuple[Task, ...]) -> Task:
        """The paper watches the target's metric; `own` lets targets share a source's expert."""
        own = self.study.fit.monitor == "own" and self.study.task not in tasks
        return tasks[0] if own else self.study.task

    def _train(
        self, stage: str, tasks: tuple[Task, ...], monitor: Task, expert: Train | None = None
    ) -> Train:
        study = self.study
        label = expert.label if expert else tasks[0].name + "+sources" * (len(tasks) > 1)
        return Train(
            stage,
            label,
            study.group,
            tasks,
            monitor,
            study.corpus,
            study.model,
            study.fit,
            study.decoding,
            study.seed,
            expert or self.pretraining,
        )


def lineage(step: Step) -> Iterator[Step]:
    """The step's ancestors, parents first, and the step; one that is reached twice comes twice."""
    for parent in step.parents:
        yield from lineage(parent)
    yield step


Control = Callable[[Plan], Step]
