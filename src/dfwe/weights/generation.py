"""What a model's generation settings ask of `generate`, and what greedy decoding takes of them.

An answer is that of transformers' `generate(num_beams=1, do_sample=False, num_return_sequences=1,
max_new_tokens=...)`. Settings of other ways to decode have no part in it; ends of a text, minimal
lengths, forced and suppressed tokens, penalties and bans have.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dfwe.errors import UserError, reason
from dfwe.weights.checkpoint import CONFIG, GENERATION
from dfwe.weights.untyped import quiet

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import GenerationConfig, PreTrainedModel

GREEDY: Mapping[str, object] = {"num_beams": 1, "do_sample": False, "num_return_sequences": 1}
OTHER_WAYS = frozenset(  # beams, sampling, speculation and the like; what generate returns besides
    "assistant_confidence_threshold assistant_early_exit assistant_ensemble_weight "
    "assistant_lookbehind cache_config cache_implementation compile_config constraints "
    "disable_compile diversity_penalty do_sample dola_layers early_stopping epsilon_cutoff "
    "eta_cutoff force_words_ids is_assistant length_penalty low_memory max_cache_len "
    "max_matching_ngram_size max_time min_p num_assistant_tokens num_assistant_tokens_schedule "
    "num_beam_groups num_beams num_return_sequences output_attentions output_hidden_states "
    "output_logits output_scores penalty_alpha prefill_chunk_size prompt_lookup_num_tokens "
    "return_dict_in_generate speculation_type target_lookbehind temperature top_h top_k top_p "
    "typical_p use_mtp".split()
)
NEUTRAL = frozenset(  # ids; lengths, which the task sets; speed; where the settings came from
    "_from_model_config bos_token_id decoder_start_token_id eos_token_id max_length "
    "max_new_tokens pad_token_id transformers_version use_cache".split()
)
NEEDS_TOKENIZER = frozenset(("stop_strings", "token_healing"))


@dataclass(frozen=True)
class Generation:
    """A network's generation settings, as greedy decoding reads them.

    Args:
        start: the id that a decoder starts with; None where no single one is named.
        ends: the ids that end a text.
        ignored: settings of other ways to decode.
        changes: settings that change which token is the best.
    """

    start: int | None
    ends: frozenset[int]
    ignored: Mapping[str, object]
    changes: Mapping[str, object]

    def note(self, folder: Path) -> str | None:
        """What of it has no part in a greedy answer, as a sentence; None where all of it has."""
        on = {name: x for name, x in self.ignored.items() if x is True or x not in (False, 1)}
        named = ", ".join(f"{name}={value}" for name, value in sorted(on.items()))
        return f"Answers are greedy: {named} of {folder} is ignored." if on else None

    def differing(self, other: "Generation") -> list[str]:
        """The names of the settings that change greedy answers and are not another model's."""
        names = sorted(self.changes.keys() | other.changes.keys())
        names = [name for name in names if self.changes.get(name) != other.changes.get(name)]
        ends = [] if self.ends == other.ends else ["eos_token_id"]
        start = [] if self.start == other.start else ["decoder_start_token_id"]
        return [*start, *ends, *names]

    @property
    def reads_source(self) -> bool:
        """Whether something of it reads an encoder's input, padding included."""
        return any(name.startswith("encoder_") for name in self.changes)

    @property
    def reads_text(self) -> bool:
        """Whether something of it reads the text, not only its ids."""
        return not NEEDS_TOKENIZER.isdisjoint(self.changes)

    @classmethod
    def of(cls, config: "GenerationConfig") -> "Generation":
        """What transformers' own settings say."""
        settings: dict[str, object] = cast(Any, config).to_diff_dict()
        start = settings.get("decoder_start_token_id", settings.get("bos_token_id"))
        ends = settings.get("eos_token_id", ())
        others = settings.keys() - OTHER_WAYS - NEUTRAL
        return cls(
            start if isinstance(start, int) else None,
            frozenset((ends,) if isinstance(ends, int) else cast(Any, ends)),
            {name: value for name, value in settings.items() if name in OTHER_WAYS},
            {name: value for name, value in settings.items() if name in others},
        )


def generation_of(network: "PreTrainedModel") -> Generation:
    """The generation settings of a network that generates."""
    return Generation.of(cast(Any, network).generation_config)


def read_generation(folder: Path) -> "GenerationConfig":
    """The generation settings in a model's folder, as `from_pretrained` reads them.

    Raises:
        UserError: their file is damaged.
    """
    from transformers import GenerationConfig

    own = (folder / GENERATION).is_file()  # older models have them in their config.json
    where: dict[str, object] = {}
    if not own:
        where = {"config_file_name": CONFIG, "_from_model_config": True}
    try:
        with quiet():
            return cast(Any, GenerationConfig).from_pretrained(folder, **where)
    except Exception as error:  # whatever a library raises for a file that is not as it should be
        name = GENERATION if own else CONFIG
        raise UserError(
            f"The generation settings in {folder / name} cannot be read ({reason(error)}); save "
            "the model again."
        ) from None


def generate(
    network: "PreTrainedModel",
    source: "Tensor",
    mask: "Tensor",
    max_new_tokens: int,
    tokenizer: object = None,
) -> "Tensor":
    """transformers' `generate`, greedily: what it generates behind each source (m, up to t).

    A row that ends before others is filled up with an end token.

    Args:
        network: a transformers model that generates.
        source: (m, s) ids; of a causal model padded on the left.
        mask: (m, s), 1 where `source` has a token.
        max_new_tokens: t.
        tokenizer: for stop strings; None leaves them out.
    """
    settings = generation_of(network)
    neutral: dict[str, None] = dict.fromkeys([*settings.ignored, "max_length"])
    if tokenizer is None:
        neutral |= dict.fromkeys(NEEDS_TOKENIZER & settings.changes.keys())
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of minimal lengths above `max_new_tokens`, say
        ids: Tensor = cast(Any, network).generate(
            input_ids=source,
            attention_mask=mask,
            max_new_tokens=max_new_tokens,
            pad_token_id=min(settings.ends, default=0),  # any token: nothing behind an end counts
            tokenizer=tokenizer,
            **{**neutral, **GREEDY},
        )
    return ids[:, 1 if network.config.is_encoder_decoder else source.shape[1] :]
