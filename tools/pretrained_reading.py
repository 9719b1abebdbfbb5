"""Does a pretrained model read? `python tools/pretrained_reading.py tiny_made FOLDER`.

Prints the loss a token on the dev dialogues (nats) with each block's source and with another
block's: a decoder that ignores its encoder shows the same loss twice.
"""

import sys
from itertools import islice
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from dfwe.data.batches import IGNORED, padded
from dfwe.data.tokenization import as_tokenizer
from dfwe.pretraining.span_corruption import Blocks, pretraining_texts
from dfwe.weights.loading import load

CONF = Path(__file__).parents[1] / "conf"
STEPS = 16


def main(name: str, folder: str) -> None:
    corpus_of = {"tiny_made": "sample", "tiny_friends": "feta_friends"}
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", overrides=[f"model={name}", f"corpus={corpus_of[name]}"])
    model, corpus = (instantiate(part, _convert_="all") for part in (cfg.model, cfg.corpus))
    network, tokenizer = load(Path(folder))
    texts = pretraining_texts(corpus.whole().dialogues("dev"))
    sizes = model.pretraining
    for whole, target in ((0.0, "hidden spans"), (1.0, "whole text")):
        blocks = Blocks(
            texts,
            as_tokenizer(tokenizer),
            block=sizes.block,
            batch=sizes.batch,
            density=sizes.density,
            span=sizes.span,
            whole=whole,
        )
        losses = torch.zeros(2)
        steps = list(islice(blocks.epoch(0, 0), STEPS))
        for step in steps:
            source = padded([source for source, _ in step], 0)
            labels = padded([target for _, target in step], IGNORED)
            for i, shown in enumerate((source, source.roll(1, 0))):
                with torch.inference_mode():
                    out = network(input_ids=shown, attention_mask=shown != 0, labels=labels)
                losses[i] += out.loss / len(steps)
        print(f"{target}: its source {losses[0]:.3f}, another's {losses[1]:.3f}")


if __name__ == "__main__":
    _, name, folder = sys.argv
    main(name, folder)
