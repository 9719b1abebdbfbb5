"""Shared fixtures: a tiny random T5 of Flan's shape, its tokenizer, examples."""

import gc
import os
import sys
import time
import warnings
from dataclasses import dataclass, replace
from functools import partial

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers on two cores

import pytest

from dfwe.data.dialogue import Dialogue, Example, Turn
from dfwe.tasks.answers import Label
from dfwe.tasks.metrics import F1
from dfwe.tasks.task import Task

WORDS = tuple(
    "anna ben carla bridge river coffee angry happy sad calm lost found the a is was to of in "
    "yes no maybe when where who why question answer emotion said bought broke fixed".split()
)
LABELS = ("happy", "angry", "rather sad", "calm")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """By `loadscope` a folder's tests run in one process, which computes once what they share."""
    from xdist.scheduler import LoadScopeScheduling

    class LoadFolderScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return nodeid.partition("::")[0].rpartition("/")[0]

    return LoadFolderScheduling(config, log) if config.option.dist == "loadscope" else None


def pytest_collection_modifyitems(items):
    """The longest folder comes first, for the others to fill the other processes beside it."""
    items.sort(key=lambda item: item.path.parent.name != "e2e")


def pytest_collection_finish():
    """What the libraries consist of is not searched for garbage again and again."""
    gc.freeze()


def pytest_fixture_setup():
    _seed()


def pytest_runtest_call():
    _seed()


def _seed():
    """Every fixture and test draws the same numbers of torch, whatever ran before."""
    if "torch" in sys.modules:
        import torch

        torch.manual_seed(0)


def sentence(rng, low, high):
    return " ".join(rng.choice(WORDS, int(rng.integers(low, high))))


@pytest.fixture(scope="session")
def tokenizer():
    import numpy as np

    from dfwe.pretraining.span_corruption import train_tokenizer

    rng = np.random.default_rng(0)
    return train_tokenizer([sentence(rng, 10, 40) for _ in range(200)], 500)


@pytest.fixture(scope="session")
def make_network(tokenizer):
    """seed -> a small random T5 whose greedy answers differ in length and content."""
    import torch

    from dfwe.pretraining.span_corruption import build

    def make(seed=0):
        network = build(tokenizer, d_model=32, d_ff=64, layers=2, heads=4, seed=seed)
        with torch.no_grad():
            network.lm_head.weight.mul_(8)
            network.lm_head.weight[1] *= 3  # the end token comes early now and then
        return network.eval()

    return make


@pytest.fixture(scope="session")
def label_examples():
    import numpy as np

    rng = np.random.default_rng(1)
    return tuple(
        Example(
            id=f"d{i // 4}_t{i}",
            dialogue=f"d{i // 4}",
            context=f"context: {sentence(rng, 3, 60)}",
            prompt="emotion:",
            target=(target := str(rng.choice(LABELS))),
            references=(target,),
            options=LABELS,
        )
        for i in range(37)
    )


@pytest.fixture(scope="session")
def text_examples():
    import numpy as np

    rng = np.random.default_rng(2)
    return tuple(
        Example(
            f"d{i}_q",
            f"d{i}",
            f"context: {sentence(rng, 3, 50)}",
            f"question: {sentence(rng, 2, 6)} answer:",
            (target := sentence(rng, 1, 6)),
            (target,),
        )
        for i in range(23)
    )


@pytest.fixture
def device_apart(monkeypatch):
    """A move to the device gives each tensor memory of its own, as one to a GPU does."""
    import torch

    there = set()

    def to(module, *where):
        def moved(held):
            if held in there:
                return held
            there.add(held)
            return held.clone()

        return module._apply(moved)

    monkeypatch.setattr(torch.nn.Module, "to", to)


@pytest.fixture(scope="session")
def stopped():
    """The exit code of a forked process that is sent a signal once a file has a text so often."""
    from dfwe.signals import stoppable

    def run(work, number, path, text, times):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside other threads
            child = os.fork()
        if child == 0:
            code = 1
            try:
                with stoppable():
                    work()
                code = 0
            except SystemExit as ended:
                code = ended.code
            finally:
                os._exit(code)
        while not (path.exists() and path.read_text().count(text) >= times):
            time.sleep(0.001)
            assert os.waitpid(child, os.WNOHANG) == (0, 0)
        os.kill(child, number)
        began = time.monotonic()
        _, status = os.waitpid(child, 0)
        assert time.monotonic() - began < 5
        return os.waitstatus_to_exitcode(status)

    return run


FILM = "the film was good bad great poor plot actor and a of it how who".split()


@pytest.fixture(scope="session")
def bert(tmp_path_factory):
    """The folder of a tiny random BERT without a head, as a Hub checkpoint is."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    from dfwe.weights.loading import save

    folder = tmp_path_factory.mktemp("bert")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *FILM]
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    torch.manual_seed(0)
    numbers = {word: number for number, word in enumerate(vocabulary)}
    save(BertModel(config), BertTokenizer(numbers), folder)
    return folder


@dataclass(frozen=True)
class ToyCorpus:
    """Four dialogues of four lines a split; a closed one fails when its test split is asked for,
    and one of few shots has the first two of dev."""

    closed: bool = False
    few: bool = False
    name: str = "toy"

    def dialogues(self, split, title=None):
        import numpy as np

        if self.closed and split == "test":
            raise AssertionError("the test split was read")
        rng = np.random.default_rng(["train", "dev", "test"].index(split))
        return tuple(
            Dialogue(
                f"{split}{d}",
                tuple(
                    Turn(("anna",), sentence(rng, 3, 9), {"mood": str(rng.choice(LABELS))})
                    for _ in range(4)
                ),
                {},
                {},
            )
            for d in range(2 if self.few and split == "dev" else 4)
        )

    def labels(self, title):
        return LABELS

    def whole(self):
        return replace(self, few=False)

    @property
    def of_sources(self):
        return self


def read_moods(dialogues, title, labels, *, prompt):
    """The moods of the lines."""
    return [
        Example(
            f"{d.id}_{i}",
            d.id,
            f"context: {turn.text}",
            prompt,
            turn.annotations["mood"],
            (turn.annotations["mood"],),
            tuple(labels),
        )
        for d in dialogues
        for i, turn in enumerate(d.turns)
    ]


def toy_task(name):
    """The moods of the lines, asked for by another prompt."""
    read = partial(read_moods, prompt=f"{name}:")
    return Task(name, name, read, Label(), [F1("micro"), F1("weighted")], 5)


TOY_TASKS = {name: toy_task(name) for name in ("mood", "tone", "air", "voice")}


@pytest.fixture(scope="session")
def make_study(tokenizer, make_network, tmp_path_factory):
    """Settings -> a study that takes a second or two, on a random model."""
    from dfwe.models.family import Seq2SeqLM
    from dfwe.scoring.decoding import Likelihood
    from dfwe.search.config import Search
    from dfwe.search.nelder_mead import nelder_mead
    from dfwe.studies.ensembling.plan import EnsemblingStudy
    from dfwe.training.config import TrainingConfig
    from dfwe.weights.loading import save

    folder = tmp_path_factory.mktemp("toy") / "model"
    save(make_network(), tokenizer, folder)

    def make(target="mood", sources=("tone", "air", "voice"), closed=False, few=False, **settings):
        model = Seq2SeqLM("toy", str(folder), max_input=32, max_target=6)
        usual = {
            "corpus": ToyCorpus(closed, few),
            "model": model,
            "decoding": Likelihood(),
            "training": TrainingConfig(learning_rate=3e-3, epochs=1, effective_batch=8),
            "search": Search(partial(nelder_mead, evaluations=9, iterations=3)),
            "seed": 0,
            "device": "cpu",
        }
        tasks = tuple(TOY_TASKS[name] for name in sources)
        return EnsemblingStudy(task=TOY_TASKS[target], sources=tasks, **usual | settings)

    return make


def cpu_trainer(folder, **settings):
    """Lightning's trainer as steps have it, on the CPU and without a logger."""
    return toy_context(folder).build_trainer(
        **{"logger": False, "default_root_dir": folder} | settings
    )


@pytest.fixture(scope="session")
def build_trainer():
    return cpu_trainer


def toy_context(folder):
    """A context on the CPU with CSV logs."""
    from dfwe.pipeline.context import Context
    from dfwe.pipeline.deferred import Deferred
    from dfwe.pipeline.loggers import CSV
    from dfwe.pipeline.store import Store

    trainer = Deferred("lightning.Trainer", {"accelerator": "cpu", "deterministic": True})
    command = "python -m dfwe.run stage={}".format
    return Context(Store(folder / "store"), trainer, (Deferred(CSV),), folder / "run", command)


@pytest.fixture
def context(tmp_path):
    return toy_context(tmp_path)


@pytest.fixture(scope="module")
def module_context(tmp_path_factory):
    return toy_context(tmp_path_factory.mktemp("context"))
