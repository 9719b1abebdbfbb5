"""A fetched corpus is checked before it is kept."""

import hashlib
import zipfile

import pytest

from dfwe.data.fetch import fetch
from dfwe.errors import UserError


@pytest.fixture
def served(tmp_path):
    file = tmp_path / "served.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("Mini/Mini.json", "{}")
    return file


def test_a_file_of_the_right_size_and_digest_is_kept(served, tmp_path):
    content = served.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    kept = fetch(served.as_uri(), tmp_path / "data", len(content), digest)
    assert kept.read_bytes() == content
    assert list(kept.parent.iterdir()) == [kept]


@pytest.mark.parametrize(
    ("check", "message"),
    [({"size": 3}, "where 3 were expected"), ({"sha256": "0" * 64}, "another sha256")],
)
def test_another_file_is_not_kept(served, tmp_path, check, message):
    with pytest.raises(UserError, match=message):
        fetch(served.as_uri(), tmp_path / "data", **check)
    assert not list((tmp_path / "data").iterdir())


def test_a_web_page_in_place_of_a_zip_is_not_kept(tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<html>sign in</html>")
    with pytest.raises(UserError, match="gave no whole zip"):
        fetch(page.as_uri(), tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())


def test_an_address_without_an_answer_is_named(tmp_path):
    with pytest.raises(UserError, match="could not be fetched"):
        fetch((tmp_path / "gone.zip").as_uri(), tmp_path / "data")
