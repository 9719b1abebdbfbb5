"""What a training logged before a kill."""

from dfwe.pipeline.journal import Journal


def test_rows_before_a_step_are_kept_and_the_others_come_again(tmp_path):
    journal = Journal(tmp_path / "log.jsonl")
    assert journal.before(0) == []
    for step in range(4):
        journal.log_metrics({"train/loss_step": 1.0 + step}, step)
    journal.log_metrics({"dev/score": 50.0, "epoch": 1}, 1)
    journal.log_metrics({"load": float("nan")})
    with journal.path.open("a") as file:
        file.write('{"step": 1, "metr')  # a kill
    rows = Journal(journal.path).before(2)
    assert [row.step for row in rows] == [0, 1, 1, None]
    assert rows[2].metrics == {"dev/score": 50.0, "epoch": 1.0}
    assert len(journal.path.read_text().splitlines()) == 4
