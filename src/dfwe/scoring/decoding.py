"""From a batch to answers: greedy generation, the exact likelihood of every option, or a head.

A decoding gives, for each example, its answer and the gold target's log-likelihood (summed over
tokens, end token included), which breaks ties between equal scores, and what it computed of the
options. It is the one place of scoring that knows the network's family.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from dfwe.data.tokenization import TokenizedSplit
from dfwe.errors import UserError
from dfwe.plain import Plain
from dfwe.scoring.backends import Backend, Sources
from dfwe.scoring.lists import floats, integers, table
from dfwe.search.evaluation import Answers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from dfwe.data.batches import Batch
    from dfwe.data.corpus import Corpus
    from dfwe.tasks.task import Task

ANSWERS = 2  # part of recipes; raised when generated answers change


@runtime_checkable
class Decoding(Protocol):
    """How answers are read off a network; deterministic."""

    families: ClassVar[tuple[str, ...]]  # of models that can be read so

    def __call__(
        self,
        network: "PreTrainedModel",
        batch: "Batch",
        tokenized: TokenizedSplit,
        max_new_tokens: int,
    ) -> Answers:
        """The answers to the rows of a batch, in their order.

        Args:
            network: a transformers model.
            batch: some examples of the split.
            tokenized: the split.
            max_new_tokens: the most tokens of a generated answer, end token included.
        """
        ...

    def check(self, task: "Task", corpus: "Corpus") -> None:
        """Raise UserError if the answers of a task cannot be given so."""
        ...

    def generates(self, task: "Task", corpus: "Corpus") -> bool:
        """Whether a task's answers are generated, by the model's generation settings."""
        ...

    def settings(self) -> Mapping[str, Plain]: ...

    def with_options(self) -> "Decoding":
        """The same answers, with the log-likelihood of every option where examples have any."""
        ...


def backend_of(network: "PreTrainedModel") -> Backend:
    """The backend for the network: `t5`, or `generic` for every other architecture."""
    from dfwe.scoring.backends import generic, t5

    return t5 if network.config.model_type in t5.KINDS else generic


@dataclass(frozen=True)
class Greedy:
    """The most likely token at each step: transformers' `generate` with one beam."""

    families: ClassVar[tuple[str, ...]] = ("seq2seq", "causal")

    def __call__(
        self,
        network: "PreTrainedModel",
        batch: "Batch",
        tokenized: TokenizedSplit,
        max_new_tokens: int,
    ) -> Answers:
        index = integers(batch.index)
        sources = backend_of(network).encode(network, batch)
        gold, options = self._likelihoods(sources, tokenized, index)
        answers = sources.greedy(max_new_tokens, tokenized.tokenizer)
        texts = tokenized.tokenizer.batch_decode(answers, skip_special_tokens=True)
        return Answers(tuple(texts), gold, options)

    def check(self, task: "Task", corpus: "Corpus") -> None:
        """Any text can be generated."""

    def generates(self, task: "Task", corpus: "Corpus") -> bool:
        return True

    def settings(self) -> Mapping[str, Plain]:
        return {"name": "greedy", "version": ANSWERS}

    def with_options(self) -> Decoding:
        return _GreedyWithOptions()

    def _likelihoods(
        self, sources: Sources, tokenized: TokenizedSplit, index: list[int]
    ) -> "_Likelihoods":
        targets = [[tokenized.targets[i]] for i in index]
        gold = sources.log_likelihoods(targets)[:, 0]
        return tuple(floats(gold)), None


@dataclass(frozen=True)
class _GreedyWithOptions(Greedy):
    """Greedy answers; the options are read from the same encoded sources as the gold answer."""

    def _likelihoods(
        self, sources: Sources, tokenized: TokenizedSplit, index: list[int]
    ) -> "_Likelihoods":
        if not all(tokenized.options[i] for i in index):
            return super()._likelihoods(sources, tokenized, index)
        return _with_options(sources, tokenized, index)


@dataclass(frozen=True)
class Likelihood:
    """The option with the highest log p(option | source), end token included.

    Never an invalid answer. A batch with a free-text example is answered greedily.
    """

    families: ClassVar[tuple[str, ...]] = ("seq2seq", "causal")

    def __call__(
        self,
        network: "PreTrainedModel",
        batch: "Batch",
        tokenized: TokenizedSplit,
        max_new_tokens: int,
    ) -> Answers:
        index = integers(batch.index)
        if not all(tokenized.options[i] for i in index):
            return Greedy()(network, batch, tokenized, max_new_tokens)
        sources = backend_of(network).encode(network, batch)
        gold, options = _with_options(sources, tokenized, index)
        answers = [
            tokenized.examples[i].options[row.index(max(row))]
            for i, row in zip(index, options, strict=True)
        ]
        return Answers(tuple(answers), gold, options)

    def check(self, task: "Task", corpus: "Corpus") -> None:
        """Raise UserError if an example of the task may have several labels."""
        if isinstance(task.answer.gold(task.examples(corpus, "dev")[0]), list):
            raise UserError(
                f"decoding=likelihood names one option, but an example of task={task.name} may "
                "have several labels; set decoding=greedy."
            )

    def generates(self, task: "Task", corpus: "Corpus") -> bool:
        return not all(example.options for example in task.examples(corpus, "dev"))

    def settings(self) -> Mapping[str, Plain]:
        return {"name": "likelihood", "version": ANSWERS}

    def with_options(self) -> Decoding:
        return self


@dataclass(frozen=True)
class Classify:
    """The label that an encoder's head finds most likely.

    Of a multi-label task every label that is more likely than not, and at least the likeliest.
    """

    families: ClassVar[tuple[str, ...]] = ("encoder",)

    def __call__(
        self,
        network: "PreTrainedModel",
        batch: "Batch",
        tokenized: TokenizedSplit,
        max_new_tokens: int,
    ) -> Answers:
        from dfwe.scoring.losses import label_log_likelihoods, label_losses

        logits = network(input_ids=batch.source, attention_mask=batch.mask).logits  # (m, k)
        gold = -label_losses(logits, batch.target).sum(1)
        best = logits.argmax(1, keepdim=True)
        chosen = best.new_zeros(logits.shape).bool().scatter(1, best, True)
        several = batch.target.shape[1] > 1
        if several:
            chosen |= logits > 0
        answers = [
            " and ".join(
                o for o, yes in zip(tokenized.examples[i].options, row, strict=True) if yes
            )
            for i, row in zip(integers(batch.index), table(chosen), strict=True)
        ]
        options = tuple(tuple(row) for row in table(label_log_likelihoods(logits, several)))
        return Answers(tuple(answers), tuple(floats(gold)), options)

    def check(self, task: "Task", corpus: "Corpus") -> None:
        """Labels are checked by the model's family, whose head names them."""

    def generates(self, task: "Task", corpus: "Corpus") -> bool:
        return False

    def settings(self) -> Mapping[str, Plain]:
        return {"name": "classify"}

    def with_options(self) -> Decoding:
        return self


# Of each row the gold answer's log-likelihood, and that of every option.
_Options = tuple[tuple[float, ...], ...]
_Likelihoods = tuple[tuple[float, ...], _Options | None]


def _with_options(
    sources: Sources, tokenized: TokenizedSplit, index: list[int]
) -> tuple[tuple[float, ...], _Options]:
    """In one pass of the decoder; all rows have options."""
    texts = [[tokenized.targets[i], *tokenized.options[i]] for i in index]
    # (m, 1 + k): the gold target, then the options
    likelihoods = sources.log_likelihoods(texts)
    rows = zip(table(likelihoods[:, 1:]), index, strict=True)
    options = tuple(tuple(row[: len(tokenized.options[i])]) for row, i in rows)
    return tuple(floats(likelihoods[:, 0])), options
