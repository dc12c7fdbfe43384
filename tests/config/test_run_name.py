"""Default names of run folders: no two configurations share a name."""

import re

import pytest

from segment.command_line import for_hydra
from segment.config.compose import compose_command
from segment.config.run_name import run_name

pytestmark = pytest.mark.usefixtures("without_pages")

STUDY = "+experiments/hippocampus=two_cores"


def name_of(*overrides: str) -> str:
    return run_name(*compose_command("train", for_hydra(overrides)))


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "demo-unet_small-fold0-seed0"),
        (["network=unetpp", "fold=3", "seed=7", "trainer=gpu", "logger=csv"], "demo-unetpp-fold3-seed7"),
        (["optimizer.lr=0.1", "loss=dice"], "demo-unet_small-fold0-seed0-loss_dice-lr0.1"),
        (["optimizer.lr=1e-3", "trainer.max_steps=150"], "demo-unet_small-fold0-seed0-lr1e-3-steps150"),
        (["network.encoder.features=[4,8]"], "demo-unet_small-fold0-seed0-features4x8"),
        (
            ["plan.batch_size=2", "optimizer.weight_decay=-1"],
            "demo-unet_small-fold0-seed0-weight_decay_-1-plan.batch_size2",
        ),
        (
            ["loss.batch=true", "network.encoder.stage.dropout=null"],
            "demo-unet_small-fold0-seed0-batch_true-dropout_null",
        ),
        (["network.encoder._target_=a.B"], "demo-unet_small-fold0-seed0-encoder._target__a.B"),
        (["~augment"], "demo-unet_small-fold0-seed0-without_augment"),
        ([STUDY, "data.root=a/b"], "hippocampus-two_cores-fold0-seed0"),
        ([STUDY, "network=unetpp"], "hippocampus-two_cores-fold0-seed0-network_unetpp"),
        ([STUDY, "data=auto", "data.root=a/b"], "hippocampus-two_cores-fold0-seed0-data_auto"),
    ],
)
def test_run_name_contains_the_choices(overrides, name):
    assert name_of(*overrides) == name


@pytest.mark.parametrize(
    ("one", "other", "start"),
    [
        (["weights=a/x"], ["weights=b/x"], "demo-unet_small-fold0-seed0-weights_x-"),
        (["data=auto", "data.root=a b"], ["data=auto", "data.root=a_b"], "a_b-unet_small-fold0-seed0"),
        (["data=auto", "data.root=größe"], ["data=auto", "data.root=gro_e"], "gro_e-unet_small-fold0-seed0"),
        (["+network.extra=1"], ["+optimizer.extra=1"], "demo-unet_small-fold0-seed0-extra1-"),
        (["loss.batch='a-b'"], ["loss.batch='ab'"], "demo-unet_small-fold0-seed0-batch_a"),
        (["plan.spacing=[0.9,0.99]"], ["plan.spacing=0.9x0.99"], "demo-unet_small-fold0-seed0-spacing0.9x0.99"),
    ],
)
def test_ambiguous_names_end_with_a_hash(one, other, start):
    names = [name_of(*overrides) for overrides in (one, other)]
    assert len(set(names)) == 2
    for name in names:
        assert name.startswith(start)
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,120}", name)


def test_long_names_are_shortened_and_stay_distinct():
    widths = [f"network.encoder.features=[{','.join([str(width)] * 40)}]" for width in (8, 16)]
    names = {name_of(override) for override in widths}
    names |= {name_of("data=auto", f"data.root={'long' * 40}{end}") for end in "ab"}
    assert len(names) == 4
    assert all(len(name) < 120 for name in names)
    many = ["augment=none", "loss=dice_focal", "trainer.precision=32-true", "trainer.check_val_every_n_epoch=1"]
    cut = r"demo-unet_small-fold0-seed0-augment_none-loss_dice-check_val_every_n_epoch1-precision32-tru-[0-9a-f]{8}"
    assert re.fullmatch(cut, name_of(*many))


def test_a_sweep_shows_the_key_and_value_that_it_varies_however_long_the_other_overrides_are():
    others = ["network.encoder.features=[8,16,32,64,128,256,320,320]", "loss=dice_focal", "augment=none"]
    others += ["scheduler=warmup_cosine", "inference.overlap=0.25", "trainer.max_steps=12000"]
    names = [name_of(*others, f"optimizer.weight_decay={value}") for value in ("0", "1e-4")]
    assert re.search("-weight_decay0-", names[0]), names
    assert re.search("-weight_decay1e-4-", names[1]), names
    assert all(key in names[0] for key in ("features", "loss", "augment", "scheduler", "overlap", "steps"))
    assert all(len(name) < 140 for name in names)


def test_a_name_of_very_many_overrides_is_still_a_name_of_a_file():
    many = [f"+callbacks.stop.some_long_name_of_an_argument_{number}={number}" for number in range(40)]
    assert len(name_of(*many)) < 255


@pytest.mark.parametrize(
    ("name", "better"),
    [("a=1,b", "a_1_b"), ("my run", "my_run"), ("Müller", "Muller"), ("a/b", "a_b"), ("..", "_"), ("日本", "_")],
)
def test_invalid_name_is_refused_with_a_valid_suggestion(name, better, segment, tmp_path, capsys):
    assert segment("train", tmp_path, f"name={name}") == 2
    assert (error := capsys.readouterr().err).startswith(f"segment: name={name}: ")
    assert f"name={better};" in error
    assert not (tmp_path / "runs").exists()
