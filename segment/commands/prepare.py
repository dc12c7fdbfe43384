"""``segment prepare``: check, plan and prepare a data set before its trainings, or one share of its scans."""

from __future__ import annotations

from omegaconf import DictConfig

from segment.config.build import check_targets
from segment.config.data import read_data, read_plan_settings
from segment.config.options import PrepareOptions, read_options
from segment.workflow.experiment import NO_COMMAND, Command
from segment.workflow.prepare import prepare_share
from segment.workflow.values import read_shard


def run(config: DictConfig, command: Command = NO_COMMAND) -> None:
    """Prepare the labelled scans of the share and say where they lie and what they take."""
    options = read_options(PrepareOptions, config)
    shard = read_shard(options.shard)
    check_targets(config)
    store, cases = prepare_share(read_data(config, command), read_plan_settings(config.plan), shard)
    whole = f"{len(store.dataset.cases)} scans"
    share = whole if shard == (1, 1) else f"share {options.shard}: {len(cases)} of {whole}"
    print(f"{share} prepared in {store.folder}, {store.size(cases) / 1e9:.3g} GB.")
    if options.cache_dtype != "float32":
        error = store.error(cases)
        print(f"Stored in {options.cache_dtype}: off by at most {error:.2g}, in units of normalised intensity.")
