from finished_runs import scores_like_dice, write_run

from segment.evaluation.comparison.compare import compare_runs
from segment.evaluation.comparison.frames import methods_frame, pairs_frame


def test_a_comparison_becomes_tables(tmp_path):
    for name, effect in (("a", 0.0), ("b", 0.1)):
        write_run(tmp_path / name, scores_like_dice(12, 2, ord(name), effect), {"network": {"name": name}})
    found = compare_runs([str(tmp_path / "a"), str(tmp_path / "b")], names=["a", "b"], resamples=200)[0]
    methods, pairs = methods_frame(found), pairs_frame(found)
    assert list(methods.index.get_level_values("method").unique()) == ["b", "a"]  # best first
    for (method, structure), row in methods.iterrows():
        score = found.estimates[method][structure]
        assert (row["mean"], (row["low"], row["high"]), row["n"]) == (score.mean, score.interval, score.n)
        assert row["rank"] == (1 if method == "b" else 2)
    row = pairs[pairs["structure"] == "posterior"].iloc[0]
    pair = found.pair("a", "b", "posterior")
    assert ((row["low"], row["high"]), row["difference"], row["significant"]) == (
        pair.interval,
        pair.difference,
        pair.significant,
    )
