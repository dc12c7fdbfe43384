import pytest


@pytest.mark.usefixtures("without_pages")
def test_a_cache_that_others_can_write_is_said(make_dataset, run_train, tmp_path, capsys):
    root = make_dataset(tmp_path / "scans", n=4)
    run_train(root, "own", "trainer.max_steps=2")
    assert "other users can write" not in capsys.readouterr().err
    (tmp_path / "cache" / "prepared").chmod(0o777)
    run_train(root, "shared", "trainer.max_steps=2")
    assert f"Note: other users can write to {tmp_path / 'cache'}," in capsys.readouterr().err
