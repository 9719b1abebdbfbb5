"""The best epoch, the checkpoint to go on from, early stopping and the bar of a training."""

from dataclasses import replace
from pickle import UnpicklingError

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from dfwe.callbacks.checkpoint import BestEpoch, EpochCheckpoint
from dfwe.callbacks.early_stopping import Patience
from dfwe.callbacks.epochs import ScoredEpochs
from dfwe.callbacks.progress import TrainingBar
from dfwe.pipeline.manifest import Manifest, entry_of
from dfwe.scoring.scorer import Scores
from dfwe.search.evaluation import Answers

LONG = [(1.0, -9.0), (3.0, -5.0), (3.0, -4.0), (3.0, -4.0), (2.0, -1.0), (3.0, -8.0), (4.0, -9.0)]
SCORES = {  # (score, log-likelihood) by epoch -> the best one
    "a higher score": ([(1.0, -9.0), (2.0, -9.5), (1.0, -1.0)], 1),
    "of equal scores the likelihood": ([(2.0, -5.0), (2.0, -4.0), (2.0, -6.0)], 1),
    "of equals the later": ([(2.0, -5.0), (2.0, -5.0), (1.0, -1.0)], 1),
    "negative scores": ([(-2.0, -5.0), (-3.0, -1.0), (-2.5, -1.0)], 0),
    "all of it": (LONG, 6),
}


class Scripted(L.LightningModule):
    """A network whose weight counts the epochs, and whose dev scores are given."""

    def __init__(self, scripted):
        super().__init__()
        self.network = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(self.network.weight)
        self.scripted = scripted

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)

    def train_dataloader(self):
        return DataLoader([0.0])

    def training_step(self, batch, batch_idx):
        loss = -self.network.weight.sum()
        self.log("train/loss_epoch", loss, on_step=False, on_epoch=True)
        return loss

    def on_train_epoch_start(self):
        score, log_likelihood = self.scripted[self.current_epoch]
        self.scores = Scores(score, {"f1": score}, log_likelihood, Answers(("a",), (0.0,)))
        self.log("dev/score", torch.tensor(score))


class Killed(Exception):
    """Stands for a kill."""


class KillInCheckpoint(EpochCheckpoint):
    """Dies in an epoch before its checkpoint is written."""

    def __init__(self, folder, best, epoch):
        super().__init__(folder, best)
        self.epoch = epoch

    def _write(self, trainer, path):
        if trainer.current_epoch == self.epoch:
            raise Killed
        super()._write(trainer, path)


@pytest.fixture
def train(build_trainer, tmp_path):
    """Folder, scores, patience, epoch of a kill -> the rows, the best epoch, its weight."""

    def train(scripted, patience=None, folder="work", kill=None):
        work = tmp_path / folder
        work.mkdir(exist_ok=True)
        scored, best = ScoredEpochs(), BestEpoch(work)
        last = KillInCheckpoint(work, best, kill)
        stopping = [] if patience is None else [Patience(patience)]
        trainer = build_trainer(
            tmp_path,
            max_epochs=len(scripted),
            callbacks=[scored, *stopping, TrainingBar("train toy", scored), best, last],
            enable_checkpointing=True,
            enable_progress_bar=True,
        )
        module = Scripted(scripted)
        trainer.fit(module, ckpt_path=last.resumable, weights_only=True)
        best.restore(module.network)
        rows = [replace(row, seconds=0.0) for row in scored.epochs]
        return rows, scored.best, module.network.weight.item()

    return train


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("scripted", "best"), SCORES.values(), ids=SCORES)
def test_the_best_epochs_weights_are_kept(train, scripted, best, tmp_path):
    rows, number, weight = train(scripted)
    assert [(row.dev.score, row.dev.log_likelihood) for row in rows] == scripted
    assert (number, weight) == (best + 1, best + 1)
    kept = [f"best-{number}.safetensors", f"resume-{len(scripted)}.ckpt", "resume.json"]
    assert files(tmp_path / "work") == kept
    assert len({(tmp_path / "work" / name).stat().st_mode for name in kept}) == 1  # the umask's


@pytest.mark.parametrize(("patience", "epochs"), [(1, 5), (2, 6), (3, 7), (None, 7)])
def test_a_training_ends_when_so_many_epochs_brought_no_better_one(train, patience, epochs):
    scripted = [*LONG[:5], (2.0, -1.0), (2.0, -1.0)]  # epoch 4 is the best
    rows, number, weight = train(scripted, patience)
    assert (len(rows), number, weight) == (epochs, 4, 4)


@pytest.mark.parametrize("kill", range(7))
@pytest.mark.parametrize("patience", [None, 2])
def test_a_killed_training_ends_as_one_that_was_not(train, kill, patience, tmp_path):
    whole = train(LONG, patience, "whole")
    if kill < len(whole[0]):
        with pytest.raises(Killed):
            train(LONG, patience, kill=kill)
    assert train(LONG, patience) == whole
    assert files(tmp_path / "work") == files(tmp_path / "whole")


def test_a_killed_training_is_resumed_where_its_folder_was_moved(train, tmp_path, caplog):
    caplog.set_level("INFO", "dfwe")
    with pytest.raises(Killed):
        train(LONG, kill=4)
    (tmp_path / "work").rename(tmp_path / "moved")
    assert train(LONG, folder="moved") == train(LONG, folder="whole")
    said = [text for text in caplog.messages if "resuming" in text]
    assert said == ["train toy: resuming at epoch 5 of 7"]
    assert files(tmp_path / "moved") == files(tmp_path / "whole")


def test_the_last_best_epoch_stays_until_the_checkpoint_knows_the_next(train, tmp_path):
    with pytest.raises(Killed):
        train(LONG, kill=1)
    assert files(tmp_path / "work") == [
        "best-1.safetensors",
        "best-2.safetensors",
        "resume-1.ckpt",
        "resume.json",
    ]


@pytest.mark.parametrize("name", ["resume-3.ckpt", "best-3.safetensors", "resume.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied", "zeros", "deleted"])
def test_a_training_whose_files_are_damaged_starts_from_the_beginning(
    train, name, damage, tmp_path, caplog
):
    """At 60dbe5b 18 of 24 bit flips of the checkpoint end in other weights, without a word."""
    whole = train(LONG, folder="whole")
    with pytest.raises(Killed):
        train(LONG, kill=3)
    path = tmp_path / "work" / name
    content = bytearray(path.read_bytes())
    if damage == "deleted":
        path.unlink()
    else:
        middle = len(content) // 2
        content[middle] ^= 4
        changed = {"flipped": content, "cut": content[:middle], "emptied": b""}
        path.write_bytes(changed.get(damage, bytes(len(content))))
    assert train(LONG) == whole
    lost = name == "resume.json" and damage == "deleted"  # as if there had been nothing
    assert caplog.text.count("starts from the beginning") == (0 if lost else 1)
    assert files(tmp_path / "work") == files(tmp_path / "whole")


class Payload:
    """Pickled code that leaves a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (exec, (f"open({str(self.trace)!r}, 'w')",))


def test_a_checkpoint_that_somebody_prepared_runs_none_of_its_code(train, tmp_path):
    with pytest.raises(Killed):
        train(LONG, kill=3)
    work, trace = tmp_path / "work", tmp_path / "trace"
    torch.save({"state_dict": Payload(trace)}, work / "resume-3.ckpt")
    names = ["resume-3.ckpt", "best-3.safetensors"]
    Manifest(files={name: entry_of(work / name) for name in names}).write(work / "resume.json")
    with pytest.raises(UnpicklingError, match="Weights only load failed"):
        train(LONG)
    assert not trace.exists()


def test_the_bar_counts_steps_and_ends_with_the_best_epochs_score(train, capsys):
    train([*LONG[:3], (2.5, -1.0)])
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("train toy ")
    assert "4/4" in last
    assert "best 3.00 (epoch 3 of 4)" in last


def test_the_bar_of_a_training_that_ended_early_is_full(train, capsys):
    train(LONG, patience=1)
    assert "5/5" in capsys.readouterr().err.splitlines()[-1]
