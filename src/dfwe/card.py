"""The model card of a mixture: what a stranger needs to use it, and to compute it again."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dfwe.markup import markdown, markdown_code

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

FILE = "README.md"  # where the Hub reads it
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
AUTO = {
    "seq2seq": "AutoModelForSeq2SeqLM",
    "causal": "AutoModelForCausalLM",
    "encoder": "AutoModelForSequenceClassification",
}
PIPELINE = {
    "seq2seq": "text-generation",
    "causal": "text-generation",
    "encoder": "text-classification",
}
USE_AT_MEAN = (
    "The head reads the mean of the tokens (`1_Pooling/config.json`), where transformers' own "
    "classifier would read the first token: load it with dfwe, which gives transformers' model."
)
UNKNOWN = "not stated"


@dataclass(frozen=True)
class Parent:
    """A model that was mixed.

    Args:
        label: what tables call it.
        name: the folder or Hub id that was given, or the base that it was fine-tuned from here.
        weights: its alpha in each group of parameters.
        licence: as its own card states it, if it does.
        cells: further cells of the table of parents.
    """

    label: str
    name: str
    weights: Sequence[float]
    licence: str | None = None
    cells: Sequence[str] = ()


@dataclass(frozen=True)
class Data:
    """What the alpha was chosen on.

    Args:
        name: the corpus's.
        hub_id: of the Hub's data set, if it is one.
        licence: its terms, where they are known.
    """

    name: str
    hub_id: str | None = None
    licence: str | None = None

    @property
    def linked(self) -> str:
        """Its name in Markdown, with the Hub's page where it has one."""
        if self.hub_id is None:
            return markdown_code(self.name)
        return f"[{self.hub_id}](https://huggingface.co/datasets/{self.hub_id})"


@dataclass(frozen=True)
class Measured:
    """A metric of the mixture on a split, in points."""

    metric: str
    split: str
    value: float


@dataclass(frozen=True)
class Card:
    """A mixture as its card tells it.

    Args:
        title: the heading.
        parents: the models that were mixed.
        groups: names of the parameter groups that have an alpha each; one for a single alpha.
        family: seq2seq, causal or encoder; None for another network.
        base: what the parents were fine-tuned from, if that is known.
        data: what alpha was chosen on, if that is known.
        task: what the scores are of.
        scores: of the mixture.
        place: what the example loads: the folder, or a repository of the Hub.
        reads_mean: whether an encoder's head reads the mean of the tokens.
        columns: the headings of the parents' further cells.
        sections: further text, below the table of parents.
    """

    title: str
    parents: Sequence[Parent]
    groups: Sequence[str]
    family: str | None = None
    base: str | None = None
    data: Data | None = None
    task: str = "dev"
    scores: Sequence[Measured] = ()
    place: str = "this folder"
    name: str = "dfwe-mixture"
    reads_mean: bool = False
    columns: Sequence[str] = ()
    sections: Sequence[str] = ()

    def text(self) -> str:
        """README.md of the model's folder, with the metadata that the Hub reads."""
        from huggingface_hub import ModelCard, ModelCardData

        data = ModelCardData(
            library_name="transformers" if self.family else None,
            pipeline_tag=PIPELINE.get(self.family or ""),
            base_model=self._base_models or None,
            datasets=[self.data.hub_id] if self.data and self.data.hub_id else None,
            license=self.licence,
            tags=["dfwe", "weight-averaging", "merge"],
            metrics=list(dict.fromkeys(score.metric for score in self.scores)) or None,
            model_name=self.name,
            eval_results=self._eval_results or None,
            base_model_relation=self._relation,
        )
        lines = [*self._head(), *self._use(), *self._mixture(), *self.sections, *self._licences()]
        return str(ModelCard("\n".join(["---", str(data), "---", "", *lines, ""])))

    @property
    def licence(self) -> str | None:
        """The one licence of all that is in the mixture; None where one is unknown or another."""
        stated = {parent.licence for parent in self.parents}
        if self.data is not None:
            stated.add(self.data.licence)
        return stated.pop() if len(stated) == 1 else None

    @property
    def _parents_on_hub(self) -> list[str]:
        names = dict.fromkeys(parent.name for parent in self.parents)
        return [name for name in names if on_hub(name)]

    @property
    def _base_models(self) -> list[str]:
        """Hub ids: of the parents, else of what they were fine-tuned from."""
        base = [self.base] if self.base is not None and on_hub(self.base) else []
        return self._parents_on_hub or base

    @property
    def _relation(self) -> str | None:
        """What the mixture is to its base models, as the Hub calls it."""
        if not self._base_models:
            return None
        return "merge" if self._parents_on_hub else "finetune"

    @property
    def _eval_results(self) -> "list[EvalResult]":
        from huggingface_hub import EvalResult

        data = self.data or Data("unknown")
        return [
            EvalResult(
                task_type=PIPELINE.get(self.family or "", "other"),
                task_name=self.task,
                dataset_type=data.hub_id or data.name,
                dataset_name=data.name,
                dataset_split=score.split,
                metric_type=score.metric,
                metric_name=f"{score.metric} (points)",
                metric_value=score.value,
            )
            for score in self.scores
        ]

    def _head(self) -> list[str]:
        return [
            f"# {markdown(self.title)}",
            "",
            "The weights are a combination of the models below, `theta(alpha) = sum_i alpha_i "
            "theta_i`, whose alpha was chosen by a search without gradients (derivative-free "
            "weight-space ensembling, [arXiv 2307.03506](https://arxiv.org/abs/2307.03506)). It "
            "runs like any one of them.",
            "",
        ]

    def _use(self) -> list[str]:
        if self.reads_mean:
            code = [
                "from dfwe import load_model",
                "",
                f"model, tokenizer = load_model({json.dumps(self.place)})",
            ]
            return [USE_AT_MEAN, "", "```python", *code, "```", ""]
        if self.family is None:
            return []
        loader = AUTO[self.family]
        return [
            "```python",
            f"from transformers import {loader}, AutoTokenizer",
            "",
            f"model = {loader}.from_pretrained({json.dumps(self.place)})",
            f"tokenizer = AutoTokenizer.from_pretrained({json.dumps(self.place)})",
            "```",
            "",
        ]

    def _mixture(self) -> list[str]:
        lines = [
            "## Mixture",
            "",
            f"| {' | '.join(['model', *map(markdown, self.groups), *self.columns, 'from'])} |",
            "|---|" + "---:|" * len(self.groups) + "---|" * (len(self.columns) + 1),
        ]
        for parent in self.parents:
            weights = [f"{weight:.6f}" for weight in parent.weights]
            cells = [markdown(parent.label), *weights, *parent.cells, _linked(parent.name)]
            lines.append(f"| {' | '.join(cells)} |")
        return [*lines, ""]

    def _licences(self) -> list[str]:
        """What was mixed and what it was chosen on, each with its terms."""
        terms = {_linked(parent.name): parent.licence for parent in self.parents}
        if self.data is not None:
            terms[f"the data, {self.data.linked}"] = self.data.licence
        listed = [f"- {name}: {markdown(licence or UNKNOWN)}" for name, licence in terms.items()]
        sentence = (
            "None is given here: the terms of all models that were mixed and of the data apply to "
            "a mixture too; read them before you share it."
            if self.licence is None
            else f"{markdown(self.licence)}, as of all that it was made of:"
        )
        return ["## Licence", "", sentence, "", *listed]


def on_hub(name: str) -> bool:
    """Whether a name is a Hub id, and no folder here."""
    return HUB_ID.fullmatch(name) is not None and not Path(name).expanduser().exists()


def stated_licence(folder: Path) -> str | None:
    """The licence that the card in a model's folder states; None where it states none."""
    from huggingface_hub import ModelCard

    if not (folder / FILE).is_file():  # which the library would look for on the Hub
        return None
    try:
        licence: object = ModelCard.load(folder / FILE).data.to_dict().get("license")
    except Exception:  # whatever a library raises for metadata that are not as they should be
        return None
    return licence if isinstance(licence, str) else None


def _linked(name: str) -> str:
    return f"[{name}](https://huggingface.co/{name})" if on_hub(name) else markdown_code(name)
