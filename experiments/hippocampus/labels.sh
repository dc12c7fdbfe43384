#!/bin/sh
# How many labels pretraining and mean teacher save on Task04: pretrains by each method, trains every point of the curve with
# three seeds, and writes the page to label_efficiency/. The same command goes on where it was stopped.
# Use: sh labels.sh FOLDER [trainer=gpu and other overrides]
set -e
root=$1
shift
for method in simclr byol mae genesis; do
    batch=$([ "$method" = simclr ] || [ "$method" = byol ] && echo 16 || echo 2)
    segment pretrain +experiments/hippocampus=labels "data.root=$root" method=$method name=hippocampus-$method \
        plan.batch_size=$batch trainer.max_steps=5000 "$@"
done
starts=null,runs/hippocampus-simclr,runs/hippocampus-byol,runs/hippocampus-mae,runs/hippocampus-genesis
segment train -m +experiments/hippocampus=labels "data.root=$root" weights=$starts labelled=4,8,16,32,208 seed=0,1,2 "$@"
segment train -m +experiments/hippocampus=labels "data.root=$root" mean_teacher.weight=1 labelled=4,8,16,32 seed=0,1,2 "$@"
segment efficiency 'runs=runs/hippocampus-labels-*' output=label_efficiency
