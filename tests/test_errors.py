"""Sentences for the user."""

import pickle

from dfwe.errors import UserError


def test_a_sentence_is_one_line_whatever_the_names_in_it_are():
    error = UserError("'a\nb\x1b[31m\u2028\ud800é' is unknown; rename it.")
    sentence = r"'a\nb\x1b[31m\u2028\ud800é' is unknown; rename it."
    assert str(error) == sentence
    assert str(pickle.loads(pickle.dumps(error))) == sentence
