"""Answers: joined, cut, written as a line and read back."""

from dfwe.search.evaluation import Answers

OPTIONS = ((-1.0, -2.0), (-0.5, -0.25, -3.0), (-4.0,))
ANSWERS = Answers(("caf\u00e9", "no", "yes"), (-0.1, -0.2, -0.3), OPTIONS)


def test_batches_are_joined_in_order():
    first, second = ANSWERS.subset([0]), ANSWERS.subset([1, 2])
    assert Answers.join([first, second]) == ANSWERS
    assert Answers.join([]) == Answers((), (), ())


def test_options_that_a_batch_lacks_are_lacked_by_all():
    plain = Answers(("no",), (-0.2,))
    assert Answers.join([ANSWERS, plain]) == Answers(
        ("caf\u00e9", "no", "yes", "no"), (-0.1, -0.2, -0.3, -0.2)
    )


def test_a_subset_is_in_the_order_of_its_positions():
    assert ANSWERS.subset([2, 0]) == Answers(
        ("yes", "caf\u00e9"), (-0.3, -0.1), (OPTIONS[2], OPTIONS[0])
    )
    assert Answers(("a", "b"), (-1.0, -2.0)).subset([1]) == Answers(("b",), (-2.0,))


def test_a_line_is_readable_text_and_is_read_back():
    assert ANSWERS.line() == (
        '{"texts": ["caf\u00e9", "no", "yes"], "log_likelihoods": [-0.1, -0.2, -0.3], '
        '"options": [[-1.0, -2.0], [-0.5, -0.25, -3.0], [-4.0]]}\n'.encode()
    )
    for answers in (ANSWERS, Answers(("a",), (-1.0,))):
        assert Answers.parse(answers.line()) == answers
