"""``segment compare``: from run folders to tables and a sentence."""

import html
import json
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from finished_runs import diverge, scan_names, scores_like_dice, stop_short, write_run
from scipy.stats import wilcoxon

from segment.command_line import override
from segment.commands import compare
from segment.config.compose import compose, compose_command
from segment.errors import UserError
from segment.statistics.sample_size import paired_sample_size

BETTER = 0.08


def compared(*overrides: str) -> None:
    compare.run(compose("compare", [override(o) for o in overrides]))


def write_study(root, networks=("unet_small", "mednext_s", "nnunet_plain"), n=12, **options):
    """Runs of two folds and two seeds of every network; mednext_s is the best, the others are alike."""
    for place, network in enumerate(networks):
        for fold in range(2):
            for seed in range(2):
                effect = BETTER if network == "mednext_s" else 0.0
                scores = scores_like_dice(n, 2, 100 * place + 10 * fold + seed, effect)
                cost = {"seconds_per_step": 0.25, "waiting_share": 0.01, "energy_kwh": 0.5, "energy_source": "measured"}
                name = f"balls-{network}-fold{fold}-seed{seed}"
                config = {"network": {"name": network, "width": 8 + place}}
                cases = scan_names(n, n * fold)
                write_run(root / name, scores, config, cases=cases, fold=fold, seed=seed, cost=cost, **options)
    return f"runs={root}/*"


def test_runs_become_tables_and_a_sentence(tmp_path, capsys):
    runs, output = write_study(tmp_path / "runs"), tmp_path / "new" / "tables"
    compared(runs, f"output={output}")
    text = capsys.readouterr().out
    rows = pd.read_csv(output / "comparison.csv")
    assert len(rows) == 3 * 3
    row = rows[(rows["first"] == "mednext_s") & (rows["second"] == "nnunet_plain") & (rows["structure"] == "anterior")]
    # The same by hand: the seeds averaged, the folds side by side.
    seeds = [
        [
            scores_like_dice(12, 2, 100 * place + 10 * fold + seed, effect)[:, 0]
            for fold in range(2)
            for seed in range(2)
        ]
        for place, effect in ((1, BETTER), (2, 0.0))
    ]
    best, other = (np.concatenate([(own[0] + own[1]) / 2, (own[2] + own[3]) / 2]) for own in seeds)
    difference = np.round(best - other, 12)
    assert row["difference"].item() == pytest.approx(difference.mean())
    assert row["p_wilcoxon"].item() == pytest.approx(wilcoxon(difference).pvalue)
    assert row["low"].item() < row["difference"].item() < row["high"].item()
    assert row["n"].item() == 24

    assert re.search(r"^ +1  mednext_s .* 1 to 1 +0\.", text, re.M)
    assert "Methods that each is significantly better than: mednext_s 2, " in text
    assert re.search(r"^mednext_s - nnunet_plain\n foreground +\+0\.0\d+ .*<0\.0001\* +<0\.0001 +\+\d", text, re.M)
    assert re.search(r"^network\.width +9 +10 +8$", text, re.M)
    assert re.search(r"^mednext_s +2 +2 +0\.\d+", text, re.M)  # the variance of two folds and two seeds
    assert re.search(r"^mednext_s +0\.25 +1\.0% +0\.5 +measured +1\.\d+$", text, re.M)  # Dice per kWh
    assert "24 scans · split val, fold 0, 1 · window overlap 0.5 · test-time augmentation off" in text
    sentence = next(
        line for line in text.splitlines() if line.startswith("mednext_s has the highest foreground Dice of 3")
    )
    assert "it is better than" in sentence
    assert sentence.endswith("intervals as they are; 24 scans of split val, folds 0, 1; 2 seeds each.")
    rules = [line for line in text.splitlines() if line.startswith("──")]
    assert len(rules) >= 5
    assert max(map(len, rules)) <= 80

    content = json.loads((output / "comparison.json").read_text())
    assert content["conclusion"] == sentence
    assert content["pairs"][0]["interval"] == [rows["low"][0], rows["high"][0]]
    assert content["ranking"]["names"][0] == "mednext_s"
    markdown, latex = (output / "comparison.md").read_text(), (output / "comparison.tex").read_text()
    assert re.search(r"^\| mednext_s \| \*\*0\.\d{4}\*\* \(0\.\d{4}, 0\.\d{4}\) \|", markdown, re.M)
    assert len(re.findall(r"^\| (?:unet_small|nnunet_plain) \|.*†.*†.*† \|$", markdown, re.M)) == 2
    assert r"\toprule" in latex
    assert re.search(r"^mednext\\_s & \\textbf\{0\.\d{3}\} \(", latex, re.M)
    assert latex.count(r"$^\dagger$") == 1 + 6
    caption = next(line for line in latex.splitlines() if line.startswith(r"\caption"))
    assert r"Dice of the foreground and of each label for 3 methods on 24 scans of split val, folds 0, 1:" in caption
    assert sentence[:30] not in caption
    assert sorted(path.name for path in output.iterdir()) == [
        *(f"comparison.{end}" for end in ("csv", "json", "md", "tex")),
        "report.html",
    ]
    assert html.escape(sentence) in (output / "report.html").read_text()
    compared(runs, f"output={output}")
    assert json.loads((output / "comparison.json").read_text()) == content


def test_two_runs_are_compared_as_json(tmp_path, capsys):
    write_study(tmp_path, networks=("unet_small", "mednext_s"))
    names = [f"{tmp_path}/balls-{network}-fold0-seed0" for network in ("unet_small", "mednext_s")]
    before = sorted(tmp_path.rglob("*"))
    compared(f"runs=[{','.join(names)}]", "format=json", "names=[old,new]", "resamples=500")
    content = json.loads(capsys.readouterr().out)
    assert [method["name"] for method in content["methods"]] == ["old", "new"]
    assert content["conclusion"].startswith(
        "Of these two trained models, new is better than old: foreground Dice higher by 0.0"
    )
    assert "12 scans of split val, fold 0; one seed each, so another training may differ" in content["conclusion"]
    assert sorted(tmp_path.rglob("*")) == before


def test_several_metrics_are_one_family_and_distances_are_better_the_lower(tmp_path, capsys):
    distances = {"a": np.full((12, 2), 3.0), "b": np.full((12, 2), 3.0)}
    distances["a"] += np.arange(24).reshape(12, 2) / 10
    distances["b"] += np.arange(24).reshape(12, 2) / 10 + np.linspace(0.1, 2, 24).reshape(12, 2)
    distances["a"][0] = 90.0  # one scan decides the mean, not the median
    for name, effect in (("a", 0.0), ("b", 0.03)):
        scores = scores_like_dice(12, 2, ord(name), effect)
        write_run(tmp_path / name, scores, {"k": name}, further={"hd95_mm": distances[name]})
    runs, output = f"runs=[{tmp_path}/a,{tmp_path}/b]", tmp_path / "out"
    alone = {}
    for metric in ("dice", "hd95_mm"):
        compared(runs, "names=[a,b]", "by=run", f"metric={metric}", "format=json")
        alone[metric] = json.loads(capsys.readouterr().out)
    compared(runs, "names=[a,b]", "by=run", "metric=[dice,hd95_mm]", "format=json", f"output={output}")
    together = {one["metric"]: one for one in json.loads(capsys.readouterr().out)}
    assert together.keys() == alone.keys()
    p = {metric: own["pairs"][0]["p"] for metric, own in together.items()}
    assert p == {metric: own["pairs"][0]["p_holm"] for metric, own in alone.items()}
    first, second = sorted(p, key=p.get)
    assert together[first]["pairs"][0]["p_holm"] == pytest.approx(min(1, 2 * p[first]))
    assert together[second]["pairs"][0]["p_holm"] == pytest.approx(max(2 * p[first], p[second]))
    for own in together.values():
        assert own["family"] == ["dice", "hd95_mm"]
        assert "Holm over 2 comparisons by Dice and HD95 (mm)" in own["conclusion"]
    assert together["dice"]["ranking"]["names"] == ["b", "a"]
    median = {name: together["hd95_mm"]["estimates"][name]["foreground"]["median"] for name in ("a", "b")}
    assert median["a"] == pytest.approx(np.median(distances["a"].mean(axis=1)))
    assert together["hd95_mm"]["ranking"]["names"] == ["b", "a"]  # by the mean
    assert median["a"] < median["b"]
    pages = [output / "report.html", output / "hd95_mm" / "report.html"]
    for page, other, link in zip(pages, ("HD95 (mm)", "Dice"), ("hd95_mm/report.html", "../report.html"), strict=True):
        assert f'By <a href="{link}">{other}</a>: ' in page.read_text()
    assert "Median over scans of the foreground HD95 (mm): b " in pages[1].read_text()
    compared(runs, "names=[a,b]", "by=run", "metric=[dice,hd95_mm]")
    text = capsys.readouterr().out
    assert text.count("Holm over 2 comparisons by Dice and HD95 (mm)") == 2
    assert "p is corrected (Holm) over the metrics too: Dice, HD95 (mm)." in text


def test_subgroups_of_scans_are_compared_and_a_wished_difference_has_its_number_of_scans(tmp_path, capsys):
    cases = scan_names(24)
    sites = ["north"] * 12 + ["south"] * 12
    scores = {name: scores_like_dice(24, 2, seed) for name, seed in (("a", 0), ("b", 1))}
    scores["b"][12:] = (scores["b"][12:] + 0.08).clip(0, 1)  # better in the south alone
    for name, values in scores.items():
        write_run(tmp_path / name, values, {"k": name}, cases=cases)
    table = tmp_path / "scans info.csv"
    table.write_text("id;Site\n" + "".join(f"{case};{site}\n" for case, site in zip(cases, sites, strict=True)))
    runs, output = f"runs=[{tmp_path}/a,{tmp_path}/b]", tmp_path / "out"
    common = (runs, "names=[a,b]", "by=[run,site]", f"table={table}", "detect=0.02")
    compared(*common, "format=json", f"output={output}")
    content = json.loads(capsys.readouterr().out)
    north, south = content["subgroups"]["scores"]
    assert (north["name"], north["scans"], south["name"]) == ("north", 12, "south")
    assert north["estimates"]["b"]["mean"] == pytest.approx(scores["b"][:12].mean())
    ((own,), (other,)) = north["pairs"], south["pairs"]
    assert own["difference"] == pytest.approx((scores["b"] - scores["a"])[:12].mean())
    assert (own["significant"], other["significant"]) == (False, True)
    assert other["p_holm"] == pytest.approx(2 * other["p"])
    (apart,) = content["subgroups"]["interactions"]
    assert apart["subgroups"]["difference"] == pytest.approx(own["difference"] - other["difference"])
    assert apart["subgroups"]["p"] < 0.001
    sd = np.std((scores["b"] - scores["a"]).mean(axis=1), ddof=1)
    (said,) = [note for note in content["notes"] if "power" in note]
    assert (
        f"in {paired_sample_size(0.02, sd)} scans (paired t test; standard deviation of their differences {sd:.4f}"
        in said
    )
    assert '<h2 id="subgroups">By site</h2>' in (output / "report.html").read_text()
    compared(*common)
    assert re.search(r"^north +12 +0\.\d{4} +0\.\d{4}$", capsys.readouterr().out, re.M)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["by=sex", "table=t.csv"], r"by=sex: t\.csv has no such column.*Did you mean 'sey'.*It has id, sey"),
        (["by=sey", "table=t.csv"], "has no row of the scan scan_001 and 8 more"),
        (["by=site"], "by=site: is neither run nor configuration.*table=FILE"),
        (["by=[run,site,sex]"], "one column of subgroups"),
        (["by=configuraton"], "Did you mean 'configuration'"),
        (["detect=-1"], "detect=-1: give a difference"),
        (["metric=[dice,dice]"], "give different columns"),
        (["metric=[dice,iou]", "margin=0.1"], "several metrics have one each"),
        (["margin={hd95_mm: 1}"], "margin.hd95_mm: is no metric of this comparison"),
    ],
)
def test_what_is_no_subgroup_metric_or_difference_is_told(tmp_path, monkeypatch, overrides, said):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write_run(tmp_path / name, scores_like_dice(10, 2, ord(name)), {"k": name})
    (tmp_path / "t.csv").write_text("id,sey\nscan_000,f\n")
    with pytest.raises(UserError, match=said):
        compared("runs=[a,b]", "resamples=100", *overrides)


def test_invalid_runs_are_omitted_and_named_in_every_output(tmp_path, capsys):
    runs, output = write_study(tmp_path / "runs", networks=("unet_small", "mednext_s")), tmp_path / "out"
    # The runs of the best that would turn the comparison round.
    bad = write_run(tmp_path / "runs" / "z-bad", np.zeros((24, 2)), {"network": {"name": "bad"}}, seed=7)
    killed = write_run(tmp_path / "runs" / "z-killed", np.zeros((24, 2)), {"network": {"name": "killed"}}, seed=7)
    diverge(bad, 8), stop_short(killed)
    compared(runs, f"output={output}", "resamples=500")
    text = capsys.readouterr().out
    sentence = text.splitlines()[-2]
    assert sentence.startswith("mednext_s is better than unet_small: ")
    assert sentence.endswith(f"; left out: {bad} (diverged at step 8), {killed} (not finished)).")
    note = f"2 runs left out (diverged or not finished): {bad} (diverged at step 8), {killed} (not finished)."
    assert note in text.splitlines()
    content = json.loads((output / "comparison.json").read_text())
    assert content["conclusion"] == sentence
    assert note in content["notes"]
    assert [(run["run"], run["diverged"], run["step"]) for run in content["failed"]] == [
        (str(bad), True, 8),
        (str(killed), False, None),
    ]
    assert len(content["methods"]) == 2
    told = f"{bad} (diverged at step 8), {killed} (not finished)".replace("_", "")
    for name in ("comparison.md", "comparison.tex", "report.html"):
        assert told in re.sub(r"[\\_]", "", (output / name).read_text())
    sound = [f"{tmp_path}/runs/balls-unet_small-fold0-seed{seed}" for seed in range(2)]
    with pytest.raises(UserError, match=r"only .*seed0 finished without diverging.*z-bad \(diverged at step 8\)"):
        compared(f"runs=[{sound[0]},{bad}]")


def test_conclusion_names_further_differences_between_the_methods(tmp_path, capsys):
    for name, lr, mirror, kind in (
        ("unet_small", 0.003, "mirror all", "AdamW"),
        ("attention_unet", 0.01, "none", "SGD"),
    ):
        network = {
            "_target_": "segment.networks.unet.UNet",
            "encoder": {"_target_": "a.B", **dict.fromkeys((f"k{key}{name}" for key in range(40)), 1)},
        }
        optimizer = {"_target_": f"torch.optim.{kind}", "_partial_": True, "lr": lr, f"only_{kind}": 1}
        config = {"network": network, "optimizer": optimizer, "scheduler": {"max_lr": lr}}
        run = write_run(tmp_path / name, scores_like_dice(12, 2, int(lr * 1000)), config)
        record = json.loads((run / "provenance.json").read_text())
        (run / "provenance.json").write_text(
            json.dumps(record | {"choices": {"network": name, "optimizer": kind.lower()}})
        )
        summary = json.loads((run / "summary.json").read_text())
        summary["protocol"]["test_time_augmentation"] = mirror
        (run / "summary.json").write_text(json.dumps(summary))
    output = tmp_path / "out"
    compared(f"runs=[{tmp_path}/unet_small,{tmp_path}/attention_unet]", f"output={output}", "resamples=500")
    text = capsys.readouterr().out
    leader = json.loads((output / "comparison.json").read_text())["ranking"]["names"][0]
    sides = "mirror all against none" if leader == "unet_small" else "none against mirror all"
    assert text.splitlines()[-2].endswith(
        "another training may differ; each with its own recipe (optimizer, learning rate); predicted with different "
        f"settings: test-time augmentation {sides})."
    )
    table = re.search(r"^choice or key .*?(?=\n\n)", text, re.M | re.S)[0].splitlines()
    assert [line.split("  ")[0] for line in table[2:-1]] == ["network", "optimizer"]
    assert re.fullmatch(r"network +unet_small +attention_unet", table[2])
    assert re.fullmatch(r"optimizer +adamw lr 0\.003 +sgd lr 0\.01", table[3])
    assert max(map(len, table)) <= 80
    markdown = (output / "comparison.md").read_text()
    assert "| choice or key | unet_small | attention_unet |\n| :-- | :-- | :-- |\n| network | unet_small |" in markdown
    assert r"| optimizer | adamw lr 0.003 | sgd lr 0.01 |" in markdown
    page = (output / "report.html").read_text()
    assert page.count('<td class="wrap">') == 4
    assert '<td class="wrap">adamw lr 0.003</td>' in page
    content = json.loads((output / "comparison.json").read_text())
    assert list(content["choices"]) == ["network", "optimizer"]
    assert len(content["differences"]) > 80
    assert f"All {len(content['differences'])} configuration keys that differ are in comparison.json" in page


def test_false_positives_are_penalised_and_reported(tmp_path, capsys):
    empty, invented = scores_like_dice(12, 2, 0), np.zeros((12, 2), bool)
    empty[:6, 1], invented[:6, 1] = np.nan, True
    write_run(tmp_path / "careful", empty)
    write_run(tmp_path / "inventive", scores_like_dice(12, 2, 0), {"optimizer": {"lr": 1}}, invented=invented)
    compared(f"runs={tmp_path}/*", "names=[careful,inventive]", f"output={tmp_path / 'out'}")
    text = capsys.readouterr().out
    assert "6 times (over all pairs, scans and labels) one method correctly left a structure empty" in text
    assert "careful is better than inventive" in text
    rows = pd.read_csv(tmp_path / "out" / "comparison.csv").set_index("structure")
    assert rows.loc["posterior", ["won", "tied", "lost", "unpaired"]].tolist() == [6, 6, 0, 6]
    assert rows.loc["foreground", "difference"] > 0
    assert "posterior in 6 scans without it, false positives: careful 0 % (0 voxels), inventive 100 % (90 vox" in text


def test_many_methods_are_all_ranked_and_compared_with_the_best(tmp_path, capsys):
    for place in range(6):
        config = {"optimizer": {"lr": place, **{f"key_{key}": place for key in range(30)}}}
        labels = [f"a_rather_long_label_{number}" for number in range(9)]
        write_run(tmp_path / f"run_{place}", scores_like_dice(20, 9, place, 0.01 * place), config, labels=labels)
    compared(f"runs={tmp_path}/*", "resamples=500")
    text = capsys.readouterr().out
    assert re.findall(r"^(run_\d)  +\+0", text, re.M) == [f"run_{place}" for place in (4, 3, 2, 1, 0)]
    assert re.findall(r"^ +(\d)  run_(\d)  ", text, re.M) == [
        (str(6 - place), str(place)) for place in range(5, -1, -1)
    ]
    assert "see comparison.csv (output=FOLDER) for all pairs and labels" in text
    assert "  optimizer.key_0: 0 (run_0); 1 (run_1)" in text
    assert len(re.findall(r"^  optimizer\.", text, re.M)) == 6
    assert "All 31 configuration keys that differ are in comparison.json (output=FOLDER)." in text
    assert "Labels of run_5: a_rather_long_label_0 0." in text


def test_text_of_files_cannot_escape_the_tables(tmp_path, capsys):
    names = ("a|b\x1b[31m", "50 % & $x_1^2$ {#} \\input{x} ~ <b>")
    for folder, shift in (("x", 0.0), ("y", 0.05)):
        write_run(tmp_path / folder, scores_like_dice(10, 2, 0, shift), {"a": folder}, labels=names)
    compared(f"runs={tmp_path}/*", f"output={tmp_path / 'out'}", "resamples=500")
    assert "\x1b" not in capsys.readouterr().out
    latex = (tmp_path / "out" / "comparison.tex").read_text()
    escaped = (
        r"50 \% \& \$x\_1\textasciicircum{}2\$ \{\#\} \textbackslash{}input\{x\} \textasciitilde{} "
        r"\textless{}b\textgreater{}"
    )
    assert escaped in latex
    markdown = (tmp_path / "out" / "comparison.md").read_text()
    assert markdown.splitlines()[0].replace(r"\|", "").count("|") == 5
    assert "&lt;b&gt;" in markdown
    assert "\x1b" not in latex + markdown


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["format=jason"], "Did you mean 'json'"),
        (["level=95"], "level=95"),
        (["resamples=10"], "resamples=10"),
        (["seed=-1"], "seed=-1"),
        (["runs={a: b}"], "runs={a: b}: no such folder"),
        (["runs=[nowhere,else]"], "nowhere: no such folder"),
    ],
)
def test_invalid_values_are_reported_before_reading_runs(tmp_path, monkeypatch, overrides, said):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=said):
        compared(*([] if overrides[0].startswith("runs") else ["runs=[a,b]"]), "output=out", *overrides)
    assert not (tmp_path / "out").exists()


def segment(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120, **options)


def test_default_run_names_are_understood_without_importing_torch(tmp_path):
    for name, lr in (("balls-unet-fold0-seed0-optimizer.lr=0.1", 0.1), ("balls-unet-fold0-seed0", 0.2)):
        write_run(tmp_path / name, scores_like_dice(10, 2, int(10 * lr)), {"optimizer": {"lr": lr}})
    runs = "runs=[balls-unet-fold0-seed0-optimizer.lr=0.1, balls-unet-fold0-seed0]"
    code = (
        "import sys, segment.cli as c\nc.main()\n"
        "print([m for m in ('torch', 'monai', 'pytorch_lightning') if m in sys.modules])"
    )
    done = segment("-c", code, "compare", runs, "resamples=500", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "lr=0.1" in done.stdout
    assert done.stdout.rstrip().endswith("[]")
    done = segment("-m", "segment.cli", "compare", "run=x", cwd=tmp_path)
    assert done.returncode == 2
    assert "Did you mean 'runs'?" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_train_records_the_choices_used_in_method_names():
    _, command = compose_command("train", ["network=mednext_s", "optimizer.lr=1"])
    assert command.overrides == ("network=mednext_s", "optimizer.lr=1")
    assert command.arguments == ("train", "network=mednext_s", "optimizer.lr=1")
    assert command.choices["network"] == "mednext_s"
    assert command.choices["loss"] == "dice_ce"
