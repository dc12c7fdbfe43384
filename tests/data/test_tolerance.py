import math

import pytest

from segment.data import open_dataset
from segment.data.tolerance import tolerance_protocol, tolerances
from segment.errors import UserError
from segment.metrics.dice import Dice
from segment.metrics.surface_dice import SurfaceDice


def test_one_number_holds_for_all_structures_and_a_mapping_for_its_own():
    assert tolerances(None, ["liver", "tumour"], "data.tolerance") == {}
    assert tolerances(2, ["liver", "tumour"], "data.tolerance") == {"liver": 2.0, "tumour": 2.0}
    assert tolerances({"liver": 7}, ["liver", "tumour"], "data.tolerance") == {"liver": 7.0}


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        (-1, "data.tolerance=-1 is not a distance in mm"),
        (math.nan, "data.tolerance=nan"),
        (True, "data.tolerance=True"),
        ({"liver": "7 mm"}, "data.tolerance.liver=7 mm"),
        ({"livr": 7}, "no structure 'livr'. Did you mean 'liver'"),
    ],
)
def test_what_is_no_distance_of_a_structure_is_refused(stated, said):
    with pytest.raises(UserError, match=said):
        tolerances(stated, ["liver", "tumour"], "data.tolerance")


def test_a_data_set_has_the_tolerance_of_its_configuration(make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=2)
    structures = open_dataset(root).labels.structures
    assert open_dataset(root).tolerance == {}
    assert open_dataset(root, tolerance=1.5).tolerance == dict.fromkeys(structures, 1.5)


def test_a_summary_states_the_tolerances_that_its_scores_used():
    both = ["liver", "tumour"]
    assert tolerance_protocol({}, both, [Dice(), SurfaceDice()]) == {"tolerance_mm": "2"}
    assert tolerance_protocol({"liver": 7.0}, both, [SurfaceDice()]) == {"tolerance_mm": "liver 7, tumour 2"}
    assert tolerance_protocol({"liver": 7.0}, both, [Dice(), SurfaceDice(3)]) == {}
