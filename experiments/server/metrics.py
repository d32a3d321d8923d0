"""What a server tells Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from experiments.server.worker import Worker

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
_METHODS = ("GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH")


class Metrics:
    """The metrics of one server."""

    def __init__(self, worker: Worker) -> None:
        """Those of a worker and its engine."""
        self._registry = CollectorRegistry()
        self._requests = Histogram(
            "hiertcn_request_seconds",
            "Time to answer a request.",
            ("route", "method", "status"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._by_key: dict[tuple[str, str, str], Histogram] = {}
        self._events = Counter(
            "hiertcn_events", "Events by what became of them.", ("status",), registry=self._registry
        )
        self._worker = worker
        self._gauge("hiertcn_waiting", "Events and users that wait.", lambda: worker.waiting)
        self._gauge(
            "hiertcn_model_newest_timestamp_seconds",
            "Time of the newest event in the model's log.",
            lambda: worker.engine.export.newest,
        )
        self._gauge(
            "hiertcn_counts_newest_timestamp_seconds",
            "Time of the newest event that was counted.",
            lambda: worker.engine.counts.newest,
        )
        self._gauge(
            "hiertcn_counted_events",
            "Events counted since the model was exported.",
            lambda: worker.engine.counts.events,
        )
        self._info = Gauge(
            "hiertcn_model_info", "The model.", ("model", "version"), registry=self._registry
        )

    def _gauge(self, name: str, says: str, value: Callable[[], float]) -> None:
        Gauge(name, says, registry=self._registry).set_function(value)

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Notes a request; any client can invent methods, which count together."""
        key = route, method if method in _METHODS else "other", str(status)
        found = self._by_key.get(key)
        if found is None:
            found = self._by_key[key] = self._requests.labels(*key)
        found.observe(seconds)

    def count(self, status: str, events: int) -> None:
        """Notes events."""
        self._events.labels(status).inc(events)

    def text(self) -> bytes:
        """All of it, in Prometheus' format."""
        engine = self._worker.engine
        self._info.clear()
        self._info.labels(engine.export.model_id, engine.version).set(1)
        return generate_latest(self._registry)
