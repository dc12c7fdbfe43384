"""Where a model is unsure: the entropy of its probabilities, saved as an image beside the mask.

python examples/uncertainty.py [key=value ...]
"""

import sys

import nibabel as nib
import numpy as np

import segment

short = ["trainer.max_steps=60", "sampler.steps_per_epoch=30", "inference.mirror=[]"]
run = segment.train("data=demo", *short, *sys.argv[1:])
model = segment.load_model(run)

case = segment.build("data", "demo", *sys.argv[1:]).cases[0]
image = nib.load(case.images[0])  # an image in memory is predicted as a file is
prediction = model.predict(image, probabilities=True)

chances = np.stack(list(prediction.probabilities.values()))  # (label, x, y, z), sum 1
entropy = -(chances * np.log2(np.maximum(chances, 1e-12))).sum(axis=0)  # bits
nib.save(nib.Nifti1Image(entropy.astype(np.float32), image.affine), run.path / "entropy.nii.gz")
prediction.save(run.path / "mask.nii.gz")
for name, value in prediction.labels.items():
    part = prediction.mask == value
    print(f"{name}: {part.sum()} voxels, {entropy[part].mean() if part.any() else 0:.2f} bits")
