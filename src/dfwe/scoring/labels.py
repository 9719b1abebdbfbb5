"""Whether a tokenizer can write the labels that a model is to answer with."""

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from dfwe.data.tokenization import TokenizedSplit
from dfwe.errors import UserError

if TYPE_CHECKING:
    from dfwe.tasks.task import Task

log = logging.getLogger(__name__)


def check_labels(task: "Task", tokenized: TokenizedSplit, *, generated: bool) -> None:
    """Check that a label's tokens stand for that label alone, and are read as it.

    What is not read as itself can still be the likeliest of the options; that is said.

    Args:
        task: reads the answers.
        tokenized: examples of it, as a model reads them; those without options are left out.
        generated: whether answers are generated.

    Raises:
        UserError: two labels are the same tokens, or one that is generated is not read as itself.
    """
    for example, options in zip(tokenized.examples, tokenized.options, strict=True):
        if not example.options:
            continue
        known: dict[tuple[int, ...], str] = {}
        rows = [list(ids) for ids in options]
        texts = tokenized.tokenizer.batch_decode(rows, skip_special_tokens=True)
        for label, ids, text in zip(example.options, options, texts, strict=True):
            other = known.setdefault(tuple(ids), label)
            if other != label:
                raise UserError(
                    f"The model's tokenizer writes the labels '{other}' and '{label}' of "
                    f"task={task.name} alike, as '{text}', so that nothing tells one from the "
                    "other; rename one, or take a model whose tokenizer has its characters."
                )
            chosen = replace(example, target=label, references=(label,))
            if task.answer(text, chosen) == task.answer(label, chosen):
                continue
            if generated:
                raise UserError(
                    f"The model's tokenizer cannot write the label '{label}' of "
                    f"task={task.name}: it becomes '{text}', so that no answer is ever right; "
                    "rename the label, set decoding=likelihood, or take a model whose tokenizer "
                    "has its characters."
                )
            log.warning(
                "The model's tokenizer cannot write the label '%s' of task=%s: its likelihood is "
                "that of '%s'.",
                label,
                task.name,
                text,
            )
