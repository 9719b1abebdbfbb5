"""A search that dies again and again ends with the ledger and the model of an unbroken one."""

import subprocess
import sys

# One process loads torch, forks searches and kills each at a random moment, which falls anywhere:
# in a score, between trials, in a write; the last one at the end, where the model is written.
SCRIPT = """
import os, random, shutil, signal, sys, time
from pathlib import Path

import torch
from dfwe import WeightSpace
from dfwe.search import Ledger, nelder_mead, search

torch.set_num_threads(1)  # a forked child cannot use the threads of its parent
root = Path(sys.argv[1])
torch.manual_seed(0)
modules = [torch.nn.Linear(6, 4) for _ in range(4)]
space = WeightSpace.from_modules(modules, labels="abcd")
module, truth = torch.nn.Linear(6, 4), torch.nn.Linear(6, 4)
space.write([0.4, 0.3, 0.2, 0.1], truth)
inputs = torch.randn(200, 6)

def score(alpha):
    space.write(alpha, module)
    time.sleep(0.005)
    with torch.no_grad():
        return 100 * (module(inputs).argmax(1) == truth(inputs).argmax(1)).double().mean().item()

def run(folder):
    found = search(nelder_mead(4, evaluations=60, iterations=200), score,
                   ledger=Ledger(folder / "trials.jsonl"))
    shutil.rmtree(folder / "model", ignore_errors=True)
    space.export(found.alpha, folder / "model")

def lines(folder):
    path = folder / "trials.jsonl"
    return path.read_bytes().count(b"\\n") if path.exists() else 0

run(root / "whole")
moments, deaths = random.Random(0), 0
for trial in [*sorted(moments.sample(range(1, 45), 9)), lines(root / "whole")]:
    child = os.fork()
    if child == 0:
        run(root / "broken")
        os._exit(0)
    while lines(root / "broken") < trial:
        time.sleep(0.0005)
    time.sleep(moments.uniform(0, 0.005))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    deaths += os.WIFSIGNALED(status)
run(root / "broken")
print(deaths)
"""


def test_sixty_evaluations_killed_at_ten_random_moments(tmp_path):
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert int(process.stdout) >= 8
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for name in ("trials.jsonl", "model/model.safetensors"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    assert len((whole / "trials.jsonl").read_text().splitlines()) > 50
    assert not list(broken.glob("*.part"))
