"""IoT device management and sensor platform for cities: the core, which knows no protocol and no vendor."""

__version__ = "0.1.0"
