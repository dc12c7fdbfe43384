"""What Prometheus reads: latency, queue, memory, failures and predicted volumes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from segment.serving.jobs import DONE, FAILED, Job
from segment.serving.service import Service

SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
MILLILITRES = (0, 0.1, 1, 5, 10, 50, 100, 500, 1000, 5000)


class ServerMetrics:
    """The metrics of one server.

    Args:
        service: Whose queue and workers are watched.
    """

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        self.jobs = Counter("segment_jobs", "Scans by outcome.", ["model", "outcome"], registry=self.registry)
        self.latency = self._histogram("job_seconds", "From the upload to the mask.", SECONDS)
        self.network = self._histogram("prediction_seconds", "What the network took.", SECONDS)
        self.volumes = self._histogram("volume_ml", "Predicted volumes.", MILLILITRES, "label")
        gauges = {
            "segment_queue_length": ("Scans that wait.", lambda: service.waiting),
            "segment_running": ("Scans that workers have.", lambda: service.running),
            "segment_ready": ("1 if a scan would be predicted now.", lambda: float(service.ready)),
            "segment_worker_restarts": ("Workers that ended and were started again.", lambda: service.restarts),
        }
        for name, (text, value) in gauges.items():
            Gauge(name, text, registry=self.registry).set_function(value)
        self.registry.register(_Memory())

    def _histogram(self, name: str, text: str, bounds: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"segment_{name}", text, ["model", *labels], registry=self.registry, buckets=bounds)

    def count(self, job: Job) -> None:
        """Count a job that is over."""
        outcome = f"failed_{job.status}" if job.state == FAILED else job.state
        self.jobs.labels(job.model, outcome).inc()
        if job.state == DONE and job.finished is not None:
            self.latency.labels(job.model).observe(job.finished - job.created)
            self.network.labels(job.model).observe(job.answer["seconds"])
            for label, volume in job.answer["volumes_ml"].items():
                self.volumes.labels(job.model, label).observe(volume)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class _Memory(Collector):
    """Resident memory of the server and of its workers."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Ask the system."""
        import psutil

        own = psutil.Process()
        family = GaugeMetricFamily("segment_memory_bytes", "Resident memory.", labels=["process"])
        family.add_metric(["server"], own.memory_info().rss)
        workers = 0
        for child in own.children():
            try:
                workers += child.memory_info().rss
            except psutil.Error:  # ended meanwhile
                continue
        family.add_metric(["workers"], workers)
        yield family
