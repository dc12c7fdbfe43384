"""A metric of one's own."""

from segment.metrics.metric import CountMetric, Counts


class Volume(CountMetric):
    """How many voxels more or fewer a mask has than its reference."""

    name, title, unit = "volume", "volume difference", "voxels"
    higher_is_better, perfect, penalty = False, 0.0, 1000.0

    def of_counts(self, counts: Counts) -> float:
        """The difference of both counts."""
        return abs(counts.prediction - counts.reference)
