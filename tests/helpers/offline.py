"""What Weights & Biases reads in a run that was logged offline."""

import subprocess
from pathlib import Path

from wandb.util import get_core_path


def logged_in(run: Path) -> str:
    """All records of a run's file as JSON, a line each; what is not whole is an error."""
    command = [get_core_path(), "leet", "inspect", "--no-observability", "--json", "--run-file"]
    inspected = subprocess.run(
        [*command, str(run)], capture_output=True, text=True, timeout=60, check=True
    )
    return inspected.stdout
