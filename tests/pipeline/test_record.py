"""Records: strict, finite, and read back as what was written."""

import numpy as np
import pytest

from dfwe.errors import UserError
from dfwe.pipeline.record import Array, Record
from dfwe.pipeline.store import StoredRecipe


class Scores(Record):
    score: float
    alpha: Array
    note: str | None = None


@pytest.mark.parametrize("shape", [(4,), (2, 3), (2, 3, 4)])
def test_an_array_is_read_back_bit_for_bit(shape, tmp_path):
    alpha = np.random.default_rng(0).normal(size=shape)
    Scores(score=1 / 3, alpha=alpha).write(tmp_path / "record.json")
    again = Scores.read(tmp_path / "record.json")
    assert again.score == 1 / 3
    assert again.alpha.dtype == np.float64
    assert again.alpha.shape == shape
    assert (again.alpha == alpha).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("field", ["score", "alpha"])
def test_a_value_that_is_not_finite_is_refused(field, value):
    values = {"score": 1.0, "alpha": [0.5], field: value if field == "score" else [value]}
    with pytest.raises(ValueError, match="finite"):
        Scores(**values)


CONTENTS = {
    '{"score": 1.0}': "alpha: Field required",
    '{"score": "1", "alpha": [1]}': "score: Input should be a valid number",
    '{"score": 1.0, "alpha": [1], "extra": 2}': "extra: Extra inputs are not permitted",
    '{"score": 1.0, "alpha": [NaN]}': "alpha: .*not finite",
    '{"score": 1.0, "alpha": {"a": 1}}': "alpha: .*no list of numbers",
    '{"score": 1.0, "alpha": ["1"]}': "alpha: .*no list of numbers",
    '{"score": 1.0, "alpha": [true]}': "alpha: .*no list of numbers",
    f'{{"score": 1.0, "alpha": [1{"0" * 400}]}}': "alpha: .*beyond all floating-point ones",
    '{"score": 1.0, ': "Invalid JSON",
}


@pytest.mark.parametrize("content", CONTENTS)
def test_what_is_no_such_record_is_named_with_the_way_out(content, tmp_path):
    path = tmp_path / "record.json"
    path.write_text(content)
    with pytest.raises(
        UserError, match=rf"as a Scores \({CONTENTS[content]}.*; delete the folder"
    ):
        Scores.read(path)


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
def test_settings_of_a_recipe_are_finite_too(number, tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text(
        '{"format": 1, "kind": "k", "version": 1, "address": "a", "parents": [], "files": {}, '
        f'"settings": {{"x": [{number}]}}}}'
    )
    with pytest.raises(UserError, match="settings: Value error, Out of range float values"):
        StoredRecipe.read(path)
