"""What is saved as a result."""

import pytest
import torch

from dfwe.errors import UserError
from dfwe.weights.loading import save


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_a_network_with_a_weight_that_is_not_finite_is_not_saved(
    value, make_t5, tokenizer, tmp_path
):
    """At 60dbe5b an expert whose training diverged was stored as a result."""
    network = make_t5()
    with torch.no_grad():
        network.shared.weight[3, 1] = value
    with pytest.raises(UserError, match=r"shared\.weight has values that are not finite.*lower"):
        save(network, tokenizer, tmp_path / "model")
    assert not (tmp_path / "model").exists()
