"""Metrics over lesions, the connected components of a structure, by an explicit rule of which of them match.

Lesions in neither mask of a scan: no score. Lesions in one of them: 0, as with every share.
Source: Maier-Hein, Reinke et al. 2024, Metrics reloaded, doi:10.1038/s41592-023-02151-z.
"""

from __future__ import annotations

from abc import abstractmethod

from segment.metrics.components import Matches, Rule, check_rule, lesions_of, match
from segment.metrics.pair import PairMetric, StructurePair


class LesionMetric(PairMetric):
    """A metric of the lesions that match.

    Args:
        matching: ``overlap``: lesions match if they share a voxel; ``iou``: one to one, with an IoU above `threshold`.
        threshold: IoU of the second rule.

    Raises:
        ValueError: The rule is unknown, or the threshold is out of range.
    """

    needs_spacing = False

    def __init__(self, matching: Rule = "overlap", threshold: float = 0.5) -> None:
        check_rule(matching, threshold)
        self.matching, self.threshold = matching, threshold
        rule = "any overlap" if matching == "overlap" else f"IoU above {threshold:g}"
        self.title = f"{self.title} at {rule}"

    def of_pair(self, pair: StructurePair) -> float:
        """Match the lesions and score them."""
        return self.of_matches(match(pair.shared(lesions_of), self.matching, self.threshold))

    @abstractmethod
    def of_matches(self, matches: Matches) -> float:
        """Score the lesions; a finite number."""


class LesionRecall(LesionMetric):
    """Lesions of the reference that were found, over all of them, in [0, 1]."""

    name, title = "lesion_recall", "Lesion recall"

    def of_matches(self, matches: Matches) -> float:
        """Lesions found over lesions of the reference."""
        return matches.found / matches.references


class LesionPrecision(LesionMetric):
    """Predicted lesions that match one of the reference, over all of them, in [0, 1]."""

    name, title = "lesion_precision", "Lesion precision"

    def of_matches(self, matches: Matches) -> float:
        """Right lesions over predicted lesions."""
        return matches.right / matches.predictions


class LesionF1(LesionMetric):
    """Harmonic mean of lesion precision and lesion recall, in [0, 1]."""

    name, title = "lesion_f1", "Lesion F1"

    def of_matches(self, matches: Matches) -> float:
        """Harmonic mean; 0 if nothing matches."""
        precision, recall = matches.right / matches.predictions, matches.found / matches.references
        return 2 * precision * recall / (precision + recall) if matches.found else 0.0


class PanopticQuality(LesionMetric):
    """Panoptic quality in [0, 1]: sum of the IoU of all matching pairs over the mean number of lesions of both masks.

    Always one to one. Source: Kirillov et al. 2019, arXiv:1801.00868.

    Args:
        threshold: IoU above which a pair matches.

    Raises:
        ValueError: The threshold is out of range.
    """

    name, title = "panoptic_quality", "Panoptic quality"

    def __init__(self, threshold: float = 0.5) -> None:
        super().__init__("iou", threshold)

    def of_matches(self, matches: Matches) -> float:
        """Sum of the IoU over the mean number of lesions."""
        return float(2 * matches.ious.sum() / (matches.references + matches.predictions))


class LesionDice(LesionMetric):
    """Mean Dice over lesions in [0, 1]: those of matching pairs; lesions that match none, of either mask, count 0.

    Always one to one.

    Args:
        threshold: IoU above which a pair matches.

    Raises:
        ValueError: The threshold is out of range.
    """

    name, title = "lesion_dice", "Lesion Dice"

    def __init__(self, threshold: float = 0.0) -> None:
        super().__init__("iou", threshold)

    def of_matches(self, matches: Matches) -> float:
        """Sum of Dice over matching pairs and lesions without match."""
        dice = 2 * matches.ious / (1 + matches.ious)
        return float(dice.sum() / (matches.references + matches.predictions - len(dice)))
