"""Counts for Prometheus, and never a label for a person."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from exuvia.api.control import Control
from exuvia.system import clock


def text(control: Control) -> bytes:
    """Return all counts in the text format of Prometheus."""
    registry = CollectorRegistry()
    registry.register(_Counts(control))
    return generate_latest(registry)


class _Counts:
    def __init__(self, control: Control) -> None:
        self._control = control

    def collect(self) -> Iterator[Metric]:
        control = self._control
        yield GaugeMetricFamily("exuvia_peers", "Peers in the peer table.", control.peers)
        yield GaugeMetricFamily(
            "exuvia_pool_used_ratio", "Share of the IPv4 pool in use or resting.", control.addresses_in_use
        )
        yield GaugeMetricFamily(
            "exuvia_gateways_live", "Gateways heard within 45 s.", control.fleet.live(now=clock.boottime())
        )
        yield GaugeMetricFamily("exuvia_gateways_enrolled", "Gateways enrolled.", len(control.fleet.all()))
        yield GaugeMetricFamily("exuvia_feeds", "Gateways that listen to the feed.", len(control.hub))
        answers = CounterMetricFamily("exuvia_answers", "Answers by status.", labels=["status"])
        for status, count in sorted(control.answers.items()):
            answers.add_metric([str(status)], count)
        yield answers
        yield from self._alarms()

    def _alarms(self) -> Iterator[Metric]:
        alarms = self._control.alarms
        begun = CounterMetricFamily("exuvia_alarms", "Alarms begun.", labels=["alarm"])
        on = GaugeMetricFamily("exuvia_alarm_on", "Whether an alarm is on.", labels=["alarm"])
        for name, count in alarms.counts.items():
            begun.add_metric([name], count)
            on.add_metric([name], name in alarms.are_on())
        yield from (begun, on)
