"""Train a U-Net on the demonstration data, then predict a scan.

python examples/train_and_predict.py [key=value ...]
"""

import sys

import segment

short = ["trainer.max_steps=60", "sampler.steps_per_epoch=30", "inference.mirror=[]"]
run = segment.train("data=demo", *short, *sys.argv[1:])  # the same again returns at once
print(run.table.round(3))

dataset = segment.build("data", "demo", *sys.argv[1:])
scan = dataset.cases[0]
model = segment.load_model(run)
prediction = model.predict(scan.images)  # on the scan's own grid, whatever the network's
print(prediction)
print("Mask:", prediction.save(run.path / "new" / f"{scan.id}.nii.gz"))
