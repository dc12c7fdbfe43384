"""``segment show``: pictures of what augmentation does."""

import numpy as np
import pytest
from PIL import Image

from segment.augment.augmentation import complete
from segment.commands import show
from segment.config.compose import compose
from segment.errors import UserError


def shown(*overrides: str) -> None:
    show.run(compose("show", overrides))


@pytest.mark.parametrize(
    ("name", "shape"),
    [("nnunet", (12, 16, 14)), ("nnunet", (24, 20)), ("monai", (12, 16, 14)), ("none", (24, 20))],
)
def test_picture_shows_original_and_augmented_patches(make_dataset, tmp_path, name, shape, capsys):
    root = make_dataset(tmp_path / "scans", n=3, shape=shape)
    picture = tmp_path / "new" / "augment.png"
    size = f"plan.patch_size=[{','.join(str(n - 4) for n in shape)}]"
    given = ["what=augment", "data=auto", f"data.root={root}", f"augment={name}", f"output={picture}", size]
    config = compose("show", [*given, "scans=2", "draws=3"])
    show.run(config)
    assert "2 scans, samples 0 to 5" in capsys.readouterr().out
    array = np.asarray(Image.open(picture))
    width = (array.shape[1] - 3 * 6) // 4
    assert array.shape[1] == 4 * width + 18
    panes = [array[:100, start : start + width] for start in range(0, array.shape[1], width + 6)]
    assert all(pane.max() > 100 for pane in panes)
    if name == "none":
        assert all(np.array_equal(panes[0], pane) for pane in panes)
    else:
        assert any(not np.array_equal(panes[0], pane) for pane in panes[1:])
    assert [path.name for path in picture.parent.iterdir()] == ["augment.png"]
    before = picture.read_bytes()
    show.run(config)
    assert picture.read_bytes() == before
    if name == "nnunet":
        config.first = 100
        show.run(config)
        assert picture.read_bytes() != before


def test_custom_augmentation_only_needs_to_be_callable():
    image, reference = np.random.default_rng(0).random((1, 9, 9)).astype(np.float32), np.zeros((9, 9), np.uint8)

    class Plan:
        patch_size, spacing = (8, 8), (1.0, 1.0)

    slices, words = show.row(image, reference, Plan, complete(lambda i, r, *_: (i + 1, r)), range(5, 7))
    assert words == [["sample 5"], ["sample 6"]]
    np.testing.assert_allclose(slices[1][0], slices[0][0] + 1)


def test_patch_is_centred_on_the_foreground():
    reference = np.zeros((20, 30), np.uint8)
    reference[4:7, 24:30] = 1
    assert show.about_foreground(reference, np.array([8, 10])).tolist() == [1, 20]  # as near as the border allows
    assert show.about_foreground(reference * 0, np.array([8, 10])).tolist() == [6, 10]
    assert show.about_foreground(reference, np.array([30, 10])).tolist() == [-5, 20]


def test_show_without_arguments_lists_what_it_can_show(capsys):
    shown()
    assert "show augment data=NAME" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["what=augmnt"], "Did you mean 'augment'"),
        (["what=augment", "output=a.jpg"], "output=a.jpg.*png"),
        (["what=augment", "scans=0"], "scans=0"),
        (["what=augment", "draws=99"], "draws=99"),
        (["what=augment", "first=-1"], "first=-1"),
        (["what=augment", "data=auto", "data.root=nowhere"], "nowhere"),
        (["what=augment", "augment.no_such=1"], "no_such"),
    ],
)
def test_mistakes_are_reported_and_nothing_is_written(tmp_path, monkeypatch, overrides, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        shown(*[f"+{o}" if o.startswith("augment.") else o for o in overrides])
    assert not list(tmp_path.iterdir())


def test_mask_on_another_grid_than_its_image_is_named(make_dataset, tmp_path):
    root = make_dataset(tmp_path / "scans", n=2)
    other = make_dataset(tmp_path / "other", n=2, shape=(10, 16, 14))
    mask = sorted((root / "labelsTr").iterdir())[0]
    mask.write_bytes((other / "labelsTr" / mask.name).read_bytes())
    with pytest.raises(UserError, match=rf"{mask.name}.*grid"):
        shown("what=augment", "data=auto", f"data.root={root}", f"output={tmp_path / 'a.png'}")
