"""Score masks that another program made: here three classes of brightness.

python examples/evaluate_masks.py [key=value ...]
"""

import sys
from pathlib import Path

import nibabel as nib
import numpy as np

import segment

dataset = segment.build("data", "demo", *sys.argv[1:])
masks = []
for case in dataset.cases[:6]:
    image, reference = nib.load(case.images[0]), nib.load(case.label)
    brain = np.asarray(reference.dataobj) > 0
    voxels = image.get_fdata()
    edges = np.quantile(voxels[brain], [0.35, 0.75])
    mask = np.where(brain, np.digitize(voxels, edges) + 1, 0).astype(np.uint8)
    masks.append(Path("masks") / f"{case.id}.nii.gz")
    masks[-1].parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(mask, image.affine), masks[-1])

references = [case.label for case in dataset.cases[:6]]  # or two folders, matched by file name
scans, summary = segment.evaluate(masks, references, labels=dict(dataset.labels), output="scores")
print(summary.round(3))
print("Worst scans:")
print(scans.sort_values("dice")[["case", "name", "dice", "iou", "status"]].head(3).round(3).to_string(index=False))
