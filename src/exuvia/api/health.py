"""What monitoring asks: counts, and never a label for a person."""

from exuvia.api.routes import Call
from exuvia.messages import Health

METRICS_MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def health(call: Call) -> Health:
    """GET /healthz."""
    return Health("ok", dict(call.control.alarms.counts))


async def metrics(call: Call) -> bytes:
    """GET /metrics, in the text format of Prometheus."""
    # Imported when somebody asks: it would be a third of the time to start.
    from exuvia.api.metrics import text

    return text(call.control)
