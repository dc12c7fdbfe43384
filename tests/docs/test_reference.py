"""The generated reference has every verb, choice, key and network."""

import sys
from pathlib import Path

import pytest
import yaml

from segment.cli import VERBS

REPOSITORY = Path(__file__).parents[2]
sys.path.append(str(REPOSITORY / "docs" / "hooks"))
import configuration  # noqa: E402

CONF = REPOSITORY / "conf"
GROUPS = sorted(folder.name for folder in CONF.iterdir() if folder.is_dir())


def names(node: dict, prefix: str = "") -> set[str]:
    """Dotted names of the keys of a configuration, nodes and leaves."""
    found = set()
    for key, value in node.items():
        if key not in ("_target_", "_partial_", *(() if prefix else ("defaults", "hydra"))):
            found |= {f"{prefix}{key}"} | (names(value, f"{prefix}{key}.") if isinstance(value, dict) else set())
    return found


def test_every_group_has_a_page_in_the_navigation():
    assert sorted(configuration.GROUPS) == GROUPS
    navigation = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    assert all(f"reference/configuration/{group}.md" in navigation for group in GROUPS)


@pytest.mark.parametrize("group", GROUPS)
def test_every_choice_has_its_keys(group):
    page = configuration.group_page(group)
    for file in (CONF / group).glob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        assert f"\n## {file.stem}\n" in page
        found = {key.name: key for key in configuration.keys(text)}
        inline = {key for name in found for key in names(yaml.safe_load(text)) if key.startswith(f"{name}.")}
        assert found.keys() | inline == names(yaml.safe_load(text))
        assert all(f"`{group}.{name}`" in page or f"`{name}`" in page for name in found)


def test_every_verb_has_its_keys():
    page = configuration.commands()
    for verb in VERBS:
        content = yaml.safe_load((CONF / f"{verb}.yaml").read_text(encoding="utf-8"))
        assert f"\n## segment {verb}\n" in page
        assert all(f"| `{name}` |" in page for name in names(content))


def test_every_network_stands_in_the_table_with_its_recipe():
    page = configuration.networks()
    assert all(f"[{file.stem}](" in page for file in (CONF / "network").glob("*.yaml"))
    row = next(line for line in page.splitlines() if line.startswith("| [nnunet_resenc_m]"))
    assert "sgd, polynomial" in row


def test_a_key_takes_its_meaning_from_the_comment_or_the_docstring():
    page = configuration.group_page("inference")
    assert "| `inference.mirror` | `all` | test-time augmentation:" in page  # conf/inference/mirror.yaml
    assert "| `inference.overlap` | `0.5` | Fraction of a window that overlaps the next one" in page  # SlidingWindows
    assert "`sigma` (`0.125`): Standard deviation of the Gaussian weights" in page  # not in the file
