"""Files that appear whole or not at all, whoever else writes or was killed."""

import json
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

from dfwe.pipeline.files import temporary_sibling, write_json


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    value = {"text": "x" * 100_000}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: write_json(tmp_path / "results.json", value), range(200)))
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    assert json.loads((tmp_path / "results.json").read_text()) == value


def test_what_a_killed_writer_has_left_is_removed_and_a_living_one_keeps_its_file(tmp_path):
    target = tmp_path / "model"
    with ProcessPoolExecutor(1) as pool:
        dead = pool.submit(temporary_sibling, target).result()
    dead.mkdir()
    (dead / "weights").write_text("half")
    with ProcessPoolExecutor(1) as pool:
        living = pool.submit(temporary_sibling, target).result()
        living.write_text("half")
        assert temporary_sibling(target) not in (living, dead)
        assert not dead.exists()
        assert living.exists()
    temporary_sibling(target)
    assert list(tmp_path.iterdir()) == []
