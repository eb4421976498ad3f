"""Cameras' health: reachable, RTSP answers, ONVIF says who it is and what time it believes it is. Never a picture.

camera://HOST[:PORT][/PATH][?onvif=PORT]    connect -> OPTIONS -> GetSystemDateAndTime, GetDeviceInformation -> Uplink

This driver is written as one from outside would be: a folder of its own, the words of iot_core.driver and
iot_core.model, an entry point in the group `iot_core.drivers`, and a profile in device_profiles/camera_health.
docs/drivers.md walks through it.
"""

from drivers.camera.watch import CameraDriver

__all__ = ["CameraDriver", "driver"]

driver = CameraDriver
