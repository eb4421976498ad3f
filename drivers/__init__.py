"""One module a protocol; each ends in `driver = ...` and is found through the entry point group `iot_core.drivers`."""
