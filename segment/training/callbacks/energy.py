"""The electricity that a training takes, as codecarbon reads or estimates it."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl

from segment.errors import UserError, did_you_mean

# codecarbon's names of counters in the processor; its other ways multiply a rated power by the load.
COUNTERS = ("intel_rapl", "intel_power_gadget", "windows_emi")


class Energy(pl.Callback):
    """Measures the electricity between the start and the end of training; nothing leaves the machine.

    The whole machine counts, whoever else works on it: processors, memory and the accelerators that this process may
    see. A resumed run adds to what it measured before.

    Args:
        country: Whose power stations give the CO2 of a kWh, as ISO 3166-1's three letters; None: no CO2 is reckoned.

    Raises:
        UserError: When codecarbon is not installed or knows no such country.
    """

    def __init__(self, country: str | None = None) -> None:
        self.country = country.upper() if country else None
        self.tracker: Any = None
        self.former = {"energy_kwh": 0.0, "co2_kg": 0.0}
        self.latest: dict[str, float] = {}
        self.measured = True
        try:
            import codecarbon.input
        except ImportError as error:
            raise UserError(
                "callbacks=energy: codecarbon, which reads the electricity, is not installed. "
                "Install the extra that brings it: pip install -e '.[energy]' in the folder of segment's code."
            ) from error
        known = codecarbon.input.DataSource().get_global_energy_mix_data()
        if self.country is not None and self.country not in known:
            raise UserError(
                f"callbacks.energy.country={country}: is no country of which the CO2 of a kWh is known."
                f"{did_you_mean(self.country, known)} Give the three letters of ISO 3166-1, or null for no CO2."
            )

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"sums": self._sums(), "measured": self.measured}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.former, self.measured = dict(state_dict["sums"]), state_dict["measured"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin; the first process alone, because it reads the whole machine."""
        if not trainer.is_global_zero:
            return
        self.tracker = _tracker(self.country, self._take)
        self.tracker.start()
        self.measured &= _is_measured(self.tracker)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End."""
        self._stop()
        if trainer.is_global_zero and not self.cost():
            warnings.warn(
                "callbacks=energy: codecarbon read nothing, so no energy stands in the summary.", stacklevel=2
            )

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """End."""
        self._stop()

    def cost(self) -> dict[str, float | str]:
        """``energy_kwh``, ``energy_source`` (measured or estimated) and ``co2_kg``; what is unknown is left out.

        Measured says that the processor's own counters were read in every sitting, as the accelerators' always are.
        Memory is estimated in any case.
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
        return {key: value + self.latest.get(key, 0.0) for key, value in self.former.items()}

    def _stop(self) -> None:
        if self.tracker is not None:
            self.tracker.stop()
            self.tracker = None

    def _take(self, total: Any) -> None:
        self.latest = {"energy_kwh": float(total.energy_consumed), "co2_kg": float(total.emissions)}


def _tracker(country: str | None, take: Callable[[Any], None]) -> Any:
    """A tracker that hands ``take`` its totals whenever it is flushed or stopped, and writes and sends nothing.

    What names a receiver is given here, so that codecarbon's own configuration files cannot.
    """
    from codecarbon import OfflineEmissionsTracker
    from codecarbon.output_methods.base_output import BaseOutput

    class Reader(BaseOutput):
        def out(self, total: Any, delta: Any) -> None:
            take(total)

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


def _is_measured(tracker: Any) -> bool:
    """Whether every processor is read by its own counter; codecarbon tells it nowhere but in its parts."""
    modes = [part._mode for part in getattr(tracker, "_hardware", ()) if hasattr(part, "_mode")]
    return all(mode in COUNTERS for mode in modes)
