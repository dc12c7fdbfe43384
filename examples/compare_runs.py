"""Train two networks on the same fold and compare them scan by scan.

python examples/compare_runs.py [key=value ...]
"""

import sys

import segment

short = ["trainer.max_steps=40", "sampler.steps_per_epoch=20", "inference.mirror=[]"]
narrow = segment.train("data=demo", "network.encoder.features=[4,8,16]", *short, *sys.argv[1:])
wide = segment.train("data=demo", "network.encoder.features=[8,16,32]", *short, *sys.argv[1:])

methods, pairs, conclusion, notes = segment.compare([narrow, wide], names=["narrow", "wide"], output="comparison")
print(methods.round(3))
print(pairs[["structure", "difference", "low", "high", "p_holm", "won", "tied", "lost", "significant"]].round(3))
print(conclusion, *notes)
print("Report: comparison/report.html")
