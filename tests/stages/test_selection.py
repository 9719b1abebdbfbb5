"""A search's record of its choice, against the statistics on the answers of its trials."""

import time

import numpy as np
import pytest

from dfwe.data.dialogue import Example
from dfwe.scoring.scorer import scores_of
from dfwe.search.baselines import single_experts, uniform
from dfwe.search.evaluation import Answers, Evaluation
from dfwe.search.loop import search
from dfwe.search.nelder_mead import nelder_mead
from dfwe.stages.selection import SelectionRecord, selection_record
from dfwe.statistics.cross_fitting import cross_fit, fold_of
from dfwe.tasks.answers import Label
from dfwe.tasks.metrics import F1, Accuracy
from dfwe.tasks.task import Task

OPTIONS = tuple("abcdefg")
EXPERTS = 3


def task(*metrics):
    return Task("t", "t", lambda *_: [], Label(), metrics, 5)


BOTH = task(F1("weighted"), Accuracy())


class World:
    """Three random models, right more often than by chance; so many examples a dialogue."""

    def __init__(self, dialogues=20, per=3, seed=0):
        rng = np.random.default_rng(seed)
        self.gold = rng.integers(len(OPTIONS), size=dialogues * per)
        self.examples = [
            Example(f"e{i}", f"d{i // per}", "", "", OPTIONS[g], (OPTIONS[g],), OPTIONS)
            for i, g in enumerate(self.gold)
        ]
        noise = rng.normal(size=(EXPERTS, len(self.gold), len(OPTIONS)))
        self.logits = noise + np.eye(len(OPTIONS))[self.gold]

    def scores(self, alpha, precision="fp32", measure=BOTH):
        mean = np.tensordot(alpha.reshape(-1, EXPERTS).mean(axis=0), self.logits, 1)
        likelihoods = mean - np.log(np.exp(mean).sum(-1, keepdims=True))
        texts = tuple(OPTIONS[k] for k in mean.argmax(-1))
        rows = np.arange(len(self.gold))
        answers = Answers(texts, tuple(likelihoods[rows, self.gold].tolist()))
        return scores_of(answers, self.examples, measure)

    def search(self, strategy=None, scores=None):
        scores = scores or self.scores
        return search(
            strategy or nelder_mead(EXPERTS, evaluations=25), lambda alpha: scores(alpha, "fp32")
        )

    def record(self, result=None, measure=BOTH, crossed=None):
        result = result or self.search()
        return selection_record(measure, self.examples, result, "score", crossed)


def test_the_record_describes_the_alphas_that_resamples_choose():
    world = World()
    result = world.search()
    record = world.record(result)
    assert record is not None
    assert record.shares.sum() == pytest.approx(1)
    assert (np.diff(record.shares) <= 0).all()
    alphas = np.array([result.trials[trial].alpha for trial in record.trials])
    np.testing.assert_allclose(record.mean, record.shares @ alphas)
    low, middle, high = record.quantiles
    assert (low <= middle).all()
    assert (middle <= high).all()
    for gain in (record.over_uniform, record.over_best_expert):
        assert gain.at_least < gain.gain < result.score - result.trials[gain.trial].score
    assert record.over_uniform.trial == EXPERTS
    best = max(result.trials[:EXPERTS], key=lambda trial: trial.score)
    assert record.over_best_expert.trial == best.index


def test_the_record_is_read_back_as_it_was_written(tmp_path):
    record = World().record()
    assert record is not None
    record.write(tmp_path / "record.json")
    again = SelectionRecord.read(tmp_path / "record.json")
    assert again.model_dump(mode="json") == record.model_dump(mode="json")


def test_groups_of_parameters_have_weights_each():
    world = World()
    record = world.record(world.search(nelder_mead(EXPERTS, evaluations=25, groups=2)))
    assert record is not None
    assert record.mean.shape == (2, EXPERTS)
    assert record.quantiles.shape == (3, 2, EXPERTS)
    np.testing.assert_allclose(record.mean.sum(axis=1), 1)


def test_only_trials_that_could_win_are_chosen():
    world = World()
    record = world.record(world.search(single_experts(EXPERTS)))
    assert record is not None
    assert set(record.trials) <= {0, 1, 2}
    screened = search(
        nelder_mead(EXPERTS, evaluations=25),
        world.scores,
        screen=lambda alpha: Evaluation(world.scores(alpha).score, precision="bf16"),
        top=2,
    )
    record = world.record(screened)
    assert record is not None
    assert {screened.trials[trial].precision for trial in record.trials} == {"fp32"}


def test_where_nothing_was_chosen_there_is_no_record():
    world = World()
    assert world.record(world.search(uniform(EXPERTS))) is None
    assert world.record(search(nelder_mead(EXPERTS), lambda alpha: float(alpha[0]))) is None
    assert World(dialogues=1, per=30).record() is None


def test_a_replayed_certificate_is_the_first_halfs_choice_on_the_second():
    world = World(dialogues=60)
    result = world.search()
    record = world.record(result)
    assert record is not None
    certificate = record.over_uniform.certificate
    half = fold_of(world.examples, 2)
    others = np.flatnonzero(half == 1).tolist()

    def key(trial):
        scores = scores_of(trial.answers, world.examples, BOTH)
        scores = scores.subset(others, world.examples, BOTH)
        return round(scores.score, 9), scores.log_likelihood, -trial.index

    chosen = max(result.trials, key=key)
    assert certificate.alpha.tolist() == chosen.alpha.tolist()
    right = [
        np.array([text == e.target for text, e in zip(texts, world.examples, strict=True)])
        for texts in (chosen.answers.texts, result.trials[EXPERTS].answers.texts)
    ]
    gain = np.mean(right[0][half == 0]) - np.mean(right[1][half == 0])
    assert certificate.gain == pytest.approx(100 * gain)
    assert (certificate.metric, certificate.exact) == ("accuracy", False)


def test_with_folds_the_certificate_is_of_a_search_that_never_read_the_other_half():
    world = World(dialogues=60)
    crossed = cross_fit(
        lambda scores, fold: world.search(scores=scores), world.scores, BOTH, world.examples, 2
    )
    record = world.record(crossed=crossed)
    assert record is not None
    half = fold_of(world.examples, 2)
    for gain in (record.over_uniform, record.over_best_expert):
        assert gain.certificate.exact
        assert gain.certificate.alpha.tolist() == crossed.searches[0].alpha.tolist()
    tested = np.flatnonzero(half == 0).tolist()
    best = max(crossed.searches[0].trials[:EXPERTS], key=lambda trial: trial.score)
    for gain, baseline in (
        (record.over_uniform, np.full(EXPERTS, 1 / EXPERTS)),
        (record.over_best_expert, best.alpha),
    ):
        points = [
            world.scores(alpha).subset(tested, world.examples, BOTH).metrics["accuracy"]
            for alpha in (crossed.searches[0].alpha, baseline)
        ]
        assert gain.certificate.gain == pytest.approx(points[0] - points[1])


def test_other_metrics_are_refused_in_a_sentence():
    record = World().record(measure=task(F1("weighted")))
    assert record is not None
    assert record.over_uniform.certificate is None
    assert record.no_certificate == (
        "A certificate needs a metric that is the share of right answers, which f1_weighted is "
        "not."
    )


def test_sixty_trials_on_a_thousand_examples_take_a_second():
    world = World(dialogues=1000, per=1)
    result = world.search(nelder_mead(EXPERTS, evaluations=60, iterations=60))
    assert len(result.trials) == 60
    began = time.process_time()
    assert world.record(result) is not None
    assert time.process_time() - began < 2  # a third of a second on a free core
