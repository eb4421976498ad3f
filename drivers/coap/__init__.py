"""CoAP: devices POST their telemetry, the answer comes after COMMIT (DESIGN section 8, RFC 7252, RFC 7959)."""

from drivers.coap.server import CoapDriver

__all__ = ["CoapDriver", "driver"]

driver = CoapDriver
