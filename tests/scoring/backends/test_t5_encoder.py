"""The encoder without padding against transformers' own."""

import torch

from dfwe.data.batches import evaluation_batches
from dfwe.data.tokenization import tokenize
from dfwe.scoring.backends.t5 import encoder_states
from dfwe.scoring.backends.t5_encoder import encode_packed


def test_packed_states_are_those_of_transformers(make_network, tokenizer, label_examples):
    network = make_network(1)
    tokenized = tokenize(label_examples, tokenizer, max_input=80, max_target=16)
    (batch,) = evaluation_batches(tokenized, 10**6)
    assert (batch.mask.sum(1) < batch.mask.shape[1]).any()
    with torch.inference_mode():
        packed = encode_packed(network.encoder, batch.source, batch.mask)
        plain = network.encoder(input_ids=batch.source, attention_mask=batch.mask)
    real = batch.mask.bool()
    assert torch.allclose(packed[real], plain.last_hidden_state[real], atol=2e-5)
    assert (packed[~real] == 0).all()


def test_scoring_packs_and_training_does_not(make_network, tokenizer, label_examples):
    network = make_network()
    tokenized = tokenize(label_examples, tokenizer, max_input=80, max_target=16)
    (batch,) = evaluation_batches(tokenized, 10**6)
    with torch.inference_mode():
        assert (encoder_states(network, batch)[~batch.mask.bool()] == 0).all()
    assert encoder_states(network, batch).requires_grad
