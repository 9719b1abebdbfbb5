"""What Weights & Biases reads in a run that was logged offline."""

import subprocess
import sys
from pathlib import Path


def logged_in(run: Path) -> str:
    """All records of a run's file as JSON, a line each; what is not whole is an error."""
    wandb = Path(sys.executable).with_name("wandb")
    command = [str(wandb), "leet", "inspect", "--json", str(run)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
