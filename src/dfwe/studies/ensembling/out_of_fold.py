"""What K-fold experts came to, for results, the terminal and the report."""

from dfwe.pipeline.store import Store
from dfwe.reporting.results import KFoldResult, RefitResult
from dfwe.stages.evaluate import TestRecord
from dfwe.stages.interpolate import SearchRecord, named
from dfwe.stages.k_fold import KFold
from dfwe.stages.refit import Refit, RefitRecord
from dfwe.statistics.rank_correlation import spearman
from dfwe.studies.ensembling.plan import Method, Plan


def k_fold_results(plan: Plan, store: Store, tested: bool = True) -> dict[str, KFoldResult]:
    """Control -> what its folds came to, of those whose search is stored.

    Args:
        plan: of the study.
        store: of results.
        tested: whether the test's results may be looked at.
    """
    return {
        method.name: _result(method, method.step, store, tested)
        for method in plan.methods
        if isinstance(method.step, KFold) and method.step.recipe in store
    }


def _result(method: Method, step: KFold, store: Store, tested: bool) -> KFoldResult:
    search = store.record(step.recipe, SearchRecord)
    known = tested and method.test.recipe in store
    test = store.record(method.test.recipe, TestRecord) if known else None
    mixture = None if test is None else test.scores(method.key)
    final = None if test is None else [scores.score for scores in test.experts]
    before = [scores.score for scores in search.experts]
    labels = [expert.label for expert in step.experts]
    epochs = [
        store.record(expert.recipe, RefitRecord).epochs if isinstance(expert, Refit) else None
        for expert in step.experts
    ]
    return KFoldResult(
        folds=step.folds.k,
        alpha=named(search.alpha, labels, search.groups),
        out_of_fold=search.dev.score,
        test=None if mixture is None else mixture.score,
        experts=[
            RefitResult(
                label=label,
                epochs=epochs[i],
                out_of_fold=before[i],
                test=None if final is None else final[i],
            )
            for i, label in enumerate(labels)
        ],
        rank_correlation=None if final is None else spearman(before, final),
    )
