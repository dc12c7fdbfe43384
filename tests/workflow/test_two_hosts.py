"""A training on two hosts: two network namespaces, whose only way to each other is a network card of their own."""

import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from whole_runs import TINY

# A file system of its own hides the namespaces from other programs; all of it ends with the shell.
HOSTS = """
set -e
mount -t tmpfs none /run
for host in one two; do ip netns add $host; ip -n $host link set lo up; done
ip link add name card1 type veth peer name card2
ip link set card1 netns one; ip link set card2 netns two
ip -n one addr add 10.9.0.1/24 dev card1; ip -n two addr add 10.9.0.2/24 dev card2
ip -n one link set card1 up; ip -n two link set card2 up
"""
START = """
GLOO_SOCKET_IFNAME=card{number} ip netns exec {host} "$@" --node-rank={rank} -m segment.cli train $WORDS \
    > {host}.out 2> {host}.err &
"""
END = """
wait -n; first=$?; wait -n; exit $((first + $?))
"""
SHELL = ["unshare", "--map-root-user", "--net", "--mount", "bash", "-c"]
TORCHRUN = [
    sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1",
    "--master-addr=10.9.0.1", "--master-port=29500",
]  # fmt: skip
STEPS = ("optimizer=sgd", "optimizer.lr=0.05", "trainer.max_steps=4", "trainer.accelerator=cpu")


@pytest.fixture(scope="module")
def hosts() -> str:
    if not shutil.which("ip") or not shutil.which("unshare"):
        pytest.skip("no ip or unshare on this machine (apt-get install iproute2 util-linux)")
    made = subprocess.run([*SHELL, HOSTS], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"this machine lets no user make network namespaces: {made.stderr.strip()}")
    return HOSTS + "".join(
        START.format(host=host, number=rank + 1, rank=rank) for rank, host in enumerate(("one", "two"))
    ) + END  # fmt: skip


@pytest.mark.slow
def test_two_hosts_train_what_one_process_trains(hosts, make_dataset, run_train, tmp_path):
    root = make_dataset(tmp_path / "data", n=4)
    one = run_train(root, "alone", *STEPS, "plan.batch_size=2")
    both = tmp_path / "both"
    words = [
        *TINY, *STEPS, f"data.root={root}", f"cache={tmp_path / 'cache'}", f"output={both}", "plan.batch_size=1",
        "trainer.devices=1", "+trainer.num_nodes=2", "+trainer.strategy=ddp",
    ]  # fmt: skip
    environment = {**os.environ, "WORDS": " ".join(words)}
    subprocess.run([*SHELL, hosts, "bash", *TORCHRUN], cwd=tmp_path, env=environment, check=False, timeout=400)
    assert (both / "report.html").exists(), "".join((tmp_path / f"{host}.err").read_text() for host in ("one", "two"))
    assert (tmp_path / "two.out").read_text() == ""  # the first host alone reports
    first, second = (load_file(run / "model" / "weights.safetensors") for run in (one, both))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=0, atol=1e-5)
    pd.testing.assert_frame_equal(*(pd.read_csv(run / "scans.csv") for run in (one, both)), rtol=1e-5)
