"""Results of a run of which little is computed."""

from dfwe.reporting.results import MixtureResult, Results

UNTRIED = MixtureResult(alpha=None, dev=None, test=None)


def unfinished(**known) -> Results:
    """These fields, and of all others that they are not known."""
    usual = {"seed": 3, "settings": {}, "models": []}
    return Results(
        one_standard_error=UNTRIED,
        likeliest=UNTRIED,
        cross_fitted=None,
        selection=None,
        optimism=None,
        delta=None,
        methods=None,
        interval=None,
        no_interval=None,
        parts=None,
        k_fold={},
        seconds={},
        model_dir=None,
        **usual | known,
    )
