"""Stage `dashboard`: the project's Weights & Biases workspace, as code."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from dfwe.errors import UserError
from dfwe.pipeline.context import Context
from dfwe.pipeline.executor import Stage, Work
from dfwe.pipeline.loggers import WANDB, wandb_api
from dfwe.reporting.terminal import console
from dfwe.studies.ensembling.plan import EnsemblingStudy

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2.interface import PanelTypes
    from wandb_workspaces.workspaces import Workspace

# (section, kind of panel, its title, the keys under which stages log what it shows), in order.
PANELS = (
    ("Results", "bars", "Test score", ("test/baseline", "test/uniform", "test/mixture")),
    ("Results", "bars", "Gain of DFWE over fine-tuning", ("test/delta",)),
    ("Results", "table", "Test scores", ("test/scores",)),
    ("Search", "lines", "Best dev score by candidate", ("search/best",)),
    ("Search", "lines", "Dev score of each candidate", ("search/score",)),
    ("Search", "media", "Trajectory", ("search/trajectory",)),
    ("Search", "media", "Alpha", ("search/alpha",)),
    ("Search", "table", "Trials", ("search/trials",)),
    ("Training", "lines", "Dev score", ("dev/score",)),
    ("Training", "lines", "Training loss", ("train/loss_epoch",)),
    ("Training", "lines", "Learning rate", ("train/learning_rate",)),
)


def dashboard(study: Callable[[], EnsemblingStudy], stage: Stage, context: Context) -> Work:
    """Save the workspace to the project that `logger=wandb` names, and print its address."""
    return Work(partial(_save, context))


def _save(context: Context) -> dict[str, float | None]:
    """Saves the workspace.

    Raises:
        UserError: another logger, no key, the package is missing, or the server refuses.
    """
    logger = next((item for item in context.loggers if item.target == WANDB), None)
    if logger is None:
        raise UserError(
            "stage=dashboard saves a Weights & Biases workspace; it needs logger=wandb."
        )
    api = wandb_api(
        "stage=dashboard",
        "see the same numbers without an account by stage=report, and each run by `wandb leet`",
    )
    from wandb.errors import Error

    project = str(logger.arguments.get("project", "dfwe"))
    entity = logger.arguments.get("entity") or api.default_entity
    if entity is None:
        raise UserError(
            "stage=dashboard does not know whose project it is; name a user or a "
            "team by logger.wandb.entity=NAME."
        )
    try:
        saved = workspace(str(entity), project).save()
    except Error as error:
        raise UserError(
            f"The workspace of {entity}/{project} could not be saved ({error}); check "
            "logger.wandb.entity and logger.wandb.project."
        ) from None
    console().print(f"dashboard  {saved.url}", soft_wrap=True)
    return {}


def workspace(entity: str, project: str) -> "Workspace":
    """The `wandb_workspaces` workspace: results first, then searches, then trainings.

    Raises:
        UserError: the package is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError:
        raise UserError(
            "stage=dashboard needs a package of Weights & Biases: "
            "pip install wandb-workspaces==0.4.13."
        ) from None

    kinds: dict[str, Callable[[str, list[str]], PanelTypes]] = {
        "bars": lambda title, keys: wr.BarPlot(title=title, metrics=[*keys]),
        "lines": lambda title, keys: wr.LinePlot(title=title, y=[*keys]),
        "media": lambda title, keys: wr.MediaBrowser(title=title, media_keys=keys),
        "table": lambda title, keys: wr.WeavePanelSummaryTable(table_name=keys[0]),  # no title
    }
    sections = {section: ws.Section(section, is_open=True) for section, *_ in PANELS}
    for section, kind, title, keys in PANELS:
        sections[section].panels.append(kinds[kind](title, list(keys)))
    return ws.Workspace(
        name="DFWE",
        entity=entity,
        project=project,
        sections=list(sections.values()),
        runset_settings=ws.RunsetSettings(
            groupby=[ws.Metric("Group"), ws.Metric("JobType")],
            pinned_columns=["summary:test/mixture", "summary:test/delta", "summary:dev/score"],
        ),
    )
