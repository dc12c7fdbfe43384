"""The energy consumption of a training, as measured or estimated by codecarbon."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl

from segment.errors import UserError, did_you_mean

# codecarbon's names for processor counters; its other methods multiply a rated power by the load.
COUNTERS = ("intel_rapl", "intel_power_gadget", "windows_emi")


class Energy(pl.Callback):
    """Measures the energy used between the start and the end of training; sends nothing over the network.

    It covers the whole machine, including other users: processors, memory and the accelerators visible to this process.
    A resumed run adds to its previous measurements.

    Args:
        country: Three-letter ISO 3166-1 code of the country whose CO2 per kWh is used; None: no CO2 estimate.

    Raises:
        UserError: When codecarbon is not installed or does not know the country.
    """

    def __init__(self, country: str | None = None) -> None:
        self.country = country.upper() if country else None
        self.tracker: Any = None
        self.previous = {"energy_kwh": 0.0, "co2_kg": 0.0}
        self.latest: dict[str, float] = {}
        self.measured = True
        try:
            import codecarbon.input
        except ImportError as error:
            raise UserError(
                "callbacks=energy: codecarbon, which measures energy, is not installed. "
                "Install it with: pip install -e '.[energy]' in the folder of segment's code."
            ) from error
        known = codecarbon.input.DataSource().get_global_energy_mix_data()
        if self.country is not None and self.country not in known:
            raise UserError(
                f"callbacks.energy.country={country}: the CO2 per kWh of this country is unknown."
                f"{did_you_mean(self.country, known)} Give the three-letter ISO 3166-1 code, or null for no CO2."
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"sums": self._sums(), "measured": self.measured}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        self.previous, self.measured = dict(state_dict["sums"]), state_dict["measured"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start measuring, in the first process only, because it measures the whole machine."""
        if not trainer.is_global_zero:
            return
        self.tracker = make_tracker(self.country, self._receive)
        self.tracker.start()
        self.measured &= is_measured(self.tracker)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop measuring."""
        self._stop()
        if trainer.is_global_zero and not self.cost():
            warnings.warn("callbacks=energy: codecarbon measured nothing, so the summary has no energy.", stacklevel=2)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Stop measuring."""
        self._stop()

    def cost(self) -> dict[str, float | str]:
        """``energy_kwh``, ``energy_source`` (measured or estimated) and ``co2_kg``; unknown values are left out.

        Measured means that the processor's counters were read in every session, as those of accelerators always are.
        Memory is always estimated.
        """
        sums = self._sums()
        if not sums["energy_kwh"]:
            return {}
        figures: dict[str, float | str] = {
            "energy_kwh": sums["energy_kwh"],
            "energy_source": "measured" if self.measured else "estimated",
        }
        return figures | ({} if self.country is None else {"co2_kg": sums["co2_kg"]})

    def _sums(self) -> dict[str, float]:
        if self.tracker is not None:
            self.tracker.flush()
        return {key: value + self.latest.get(key, 0.0) for key, value in self.previous.items()}

    def _stop(self) -> None:
        if self.tracker is not None:
            self.tracker.stop()
            self.tracker = None

    def _receive(self, total: Any) -> None:
        self.latest = {"energy_kwh": float(total.energy_consumed), "co2_kg": float(total.emissions)}


def make_tracker(country: str | None, receive: Callable[[Any], None]) -> Any:
    """A tracker that passes its totals to ``receive`` when it is flushed or stopped, and writes and sends nothing.

    All settings that name a receiver are set here, so that codecarbon's configuration files cannot set them.
    """
    from codecarbon import OfflineEmissionsTracker
    from codecarbon.output_methods.base_output import BaseOutput

    class Reader(BaseOutput):
        def out(self, total: Any, delta: Any) -> None:
            receive(total)

    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
    return OfflineEmissionsTracker(
        country_iso_code=country,
        region=None,
        country_2letter_iso_code=None,
        cloud_provider=None,
        cloud_region=None,
        force_carbon_intensity_g_co2e_kwh=0.0 if country is None else None,
        electricitymaps_api_token="",
        emissions_endpoint=None,
        output_methods=[],
        output_handlers=[Reader()],
        output_dir=tempfile.gettempdir(),
        api_call_interval=-1,
        allow_multiple_runs=True,
        log_level="critical",
    )


def is_measured(tracker: Any) -> bool:
    """Whether every processor is measured by its counter; only codecarbon's private attributes tell this."""
    modes = [part._mode for part in getattr(tracker, "_hardware", ()) if hasattr(part, "_mode")]
    return all(mode in COUNTERS for mode in modes)
