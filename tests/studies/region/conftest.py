"""A task over a table of texts, for whole studies and for the texts of a probe."""

from functools import partial

import pytest

from dfwe.data.table import classification
from dfwe.tasks.answers import Label
from dfwe.tasks.metrics import Accuracy
from dfwe.tasks.task import Task


@pytest.fixture(scope="session")
def make_task():
    """name -> the task of telling bad texts from good ones."""

    def make(name):
        read = partial(classification, context="{text}", prompt="")
        return Task(name, name, read, Label(), (Accuracy(),), 1, labels=("bad", "good"))

    return make
