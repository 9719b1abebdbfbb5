"""An optimizer step of 24 examples: re-split by length against three padded batches of 8."""

from typing import Any

from friends import has_bf16, interleaved, network, row, spread, task_examples, tokenizer_of


def optimizer_step(net: Any, optimizer: Any, batches: list[Any], bf16: bool) -> None:
    """One step on its micro-batches, as `dfwe.training.module` makes it."""
    import torch

    from dfwe.scoring.backends.t5 import token_losses

    optimizer.zero_grad()
    for part in batches:
        with torch.autocast(part.source.device.type, torch.bfloat16, enabled=bf16):
            loss = (token_losses(net, part) * part.weight).sum()
        loss.backward()
    optimizer.step()


def rows(shape: str = "small", steps: int = 1, rounds: int = 2) -> list[dict[str, Any]]:
    """Row of training on emory in random order; the reference is eager attention, plain Adam."""
    import torch

    from dfwe.data.batches import collate
    from dfwe.data.tokenization import tokenize
    from dfwe.training.config import TrainingConfig
    from dfwe.training.datamodule import TrainingSteps
    from dfwe.weights.loading import fuse_gelu

    _, train = task_examples("emory", "train")
    chosen = spread(train, 24 * steps)
    tokenized = tokenize(chosen, tokenizer_of(train), max_input=512, max_target=128)
    epoch = TrainingSteps({"emory": tokenized}, TrainingConfig(), seed=0)
    ours, theirs = fuse_gelu(network(shape)).train(), network(shape).train()
    theirs.set_attn_implementation("eager")
    fast = torch.optim.Adam(ours.parameters(), lr=1e-4, fused=True)
    slow = torch.optim.Adam(theirs.parameters(), lr=1e-4)

    def resplit(precision: str) -> None:
        for number in range(len(epoch)):
            optimizer_step(ours, fast, epoch[number], bf16=precision == "bf16")

    def plain() -> None:
        for start in range(0, len(epoch.draws), 3):
            slow.zero_grad()
            for _, index in epoch.draws[start : start + 3]:
                b = collate(tokenized, index, [1.0] * len(index))
                out = theirs(input_ids=b.source, attention_mask=b.mask, labels=b.target)
                (out.loss / 3).backward()
            slow.step()

    ways = {"plain": plain, "fp32": lambda: resplit("fp32")}
    if has_bf16():
        ways["bf16"] = lambda: resplit("bf16")
    seconds = interleaved(ways, rounds)
    note = f"flan-t5-{shape} shape, {steps} step of 24 examples of emory, one thread"
    lines = [row("train/plain", seconds["fp32"], seconds["plain"], f"{note}, fp32")]
    if "bf16" in seconds:
        return [
            *lines,
            row("train/plain_bf16", seconds["bf16"], seconds["plain"], f"{note}, ours in bf16"),
        ]
    return [
        *lines,
        row(
            "train/plain_bf16", None, None, "not measured: this processor has no bf16 instructions"
        ),
    ]


if __name__ == "__main__":
    for line in rows():
        print(line)
