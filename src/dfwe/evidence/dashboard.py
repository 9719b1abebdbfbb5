"""Stage `dashboard`: the project's Weights & Biases workspace, as code."""

from typing import Any

from rich.console import Console

from dfwe.errors import UserError
from dfwe.execute import Stage
from dfwe.lab import Lab, WandB
from dfwe.plan import Study

Panels = dict[str, dict[str, list[Any]]]
# Section -> title of a panel -> the keys under which stages log what it shows.
LINES: Panels = {
    "Search": {
        "Best dev score by candidate": ["search/best"],
        "Dev score of each candidate": ["search/score"],
    },
    "Training": {
        "Dev score": ["dev/score"],
        "Training loss": ["train/loss_epoch"],
        "Learning rate": ["train/learning_rate"],
    },
}
BARS: Panels = {
    "Results": {
        "Test score": ["test/baseline", "test/uniform", "test/dfwe"],
        "Gain of DFWE over fine-tuning": ["test/delta"],
    }
}
MEDIA: Panels = {"Search": {"Trajectory": ["search/trajectory"], "Alpha": ["search/alpha"]}}
TABLES = {"Results": ["test/scores"], "Search": ["search/trials"]}
SECTIONS = ("Results", "Search", "Training")


def dashboard(study: Study, stage: Stage, lab: Lab) -> None:
    """Save the workspace to the project that `logger=wandb` names, and print its address.

    Raises:
        UserError: another logger, no key, the package is missing, or the server refuses.
    """
    logger = lab.open_log
    if not isinstance(logger, WandB):
        raise UserError("stage=dashboard saves a Weights & Biases workspace; it needs "
                        "logger=wandb.")  # fmt: skip
    logger.check_login("stage=dashboard")
    import wandb
    from wandb.errors import Error

    entity = logger.entity or wandb.Api().default_entity
    if entity is None:
        raise UserError("stage=dashboard does not know whose project it is; name a user or a "
                        "team by logger.entity=NAME.")  # fmt: skip
    try:
        saved = workspace(entity, logger.project).save()
    except Error as error:
        raise UserError(
            f"The workspace of {entity}/{logger.project} could not be saved ({error}); check "
            "logger.entity and logger.project."
        ) from None
    Console().print(f"dashboard  {saved.url}", soft_wrap=True)


def workspace(entity: str, project: str) -> Any:
    """The `wandb_workspaces` workspace: results first, then searches, then trainings.

    Raises:
        UserError: the package is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError:
        raise UserError("stage=dashboard needs a package of Weights & Biases: "
                        "pip install wandb-workspaces==0.4.13.") from None  # fmt: skip

    def panels(section: str) -> list[Any]:
        return [
            *(wr.BarPlot(title=title, metrics=keys)
              for title, keys in BARS.get(section, {}).items()),
            *(wr.LinePlot(title=title, x="Step", y=keys)
              for title, keys in LINES.get(section, {}).items()),
            *(wr.MediaBrowser(title=title, media_keys=keys)
              for title, keys in MEDIA.get(section, {}).items()),
            *(wr.WeavePanelSummaryTable(table_name=key) for key in TABLES.get(section, [])),
        ]  # fmt: skip

    return ws.Workspace(
        name="DFWE", entity=entity, project=project,
        sections=[ws.Section(name, panels(name), is_open=True) for name in SECTIONS],
        runset_settings=ws.RunsetSettings(
            groupby=[ws.Metric("Group"), ws.Metric("JobType")],
            pinned_columns=["summary:test/dfwe", "summary:test/delta", "summary:dev/score"],
        ),
    )  # fmt: skip
