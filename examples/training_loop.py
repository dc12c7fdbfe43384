"""A custom training loop: segment provides patches, network, loss and optimiser, and predicts whole scans.

python examples/training_loop.py [key=value ...]
"""

import sys
from pathlib import Path

import torch

import segment

data = segment.datamodule("data=demo", "sampler.steps_per_epoch=20", *sys.argv[1:], augmented=True)
labels, channels = data.dataset.labels, data.dataset.channels
network = segment.build("network", "unet_small", in_channels=len(channels), out_channels=labels.outputs)
criterion = segment.build("loss", "dice_ce")
optimizer = segment.build("optimizer", "adamw", params=network.parameters(), lr=3e-3)

torch.manual_seed(0)
loader = data.train_dataloader()
for epoch in range(2):
    losses = []
    for batch in loader:  # each pass yields new patches
        loss = criterion(network(batch["image"]), batch["reference"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"epoch {epoch}: loss {sum(losses) / len(losses):.3f}")

model = segment.Model(network, data.plan, labels, channels, precision="32-true")
masks = [model.predict(case.images).save(Path("masks") / f"{case.id}.nii.gz") for case in data.val]
scans, summary = segment.evaluate(masks, [case.label for case in data.val])
print(summary.round(3))
