import numpy as np
from PIL import Image

from segment.data.case import Case
from segment.data.labels import Labels
from segment.io.images import read_grid
from segment.metrics.detection import Detections
from segment.workflow.detection import LesionFinder


def test_lesions_of_each_label_are_scored_by_its_own_probability_without_unannotated_voxels(tmp_path):
    labels = Labels({"background": 0, "low": 10, "high": 20, "ignore": 99})
    file = tmp_path / "label.png"
    Image.fromarray(np.array([[10, 10, 0, 20, 0, 99, 99], [0, 0, 0, 20, 0, 99, 99]], np.uint8)).save(file)
    mask = np.array([[1, 0, 0, 2, 0, 1, 2], [0, 0, 0, 0, 0, 1, 2]], np.uint8)
    finder, parts = LesionFinder(labels, "maximum"), []
    grid = read_grid(file)
    for factor in (1, 0.5):
        kept = finder.room(grid)
        kept[:] = np.array([0.1, 0.7, 0.9], np.float32)[:, None, None] * factor
        parts.append(finder.find(Case("a", (file,), file), grid, mask, kept))
    found = {name: Detections.pooled([part[name] for part in parts]) for name in parts[0]}
    assert list(found) == ["low", "high"]
    for own, score in ((found["low"], 0.7), (found["high"], 0.9)):
        np.testing.assert_allclose(own.scores, [score, score / 2], rtol=1e-6)
        assert (own.references, own.scans) == (2, 2)
        assert own.right.all()  # an IoU of 1/2 each
