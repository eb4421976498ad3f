"""Modbus TCP: the units behind each gateway are polled over one connection (Modbus Messaging on TCP/IP, V1.0b)."""

from drivers.modbus.poller import ModbusDriver

__all__ = ["ModbusDriver", "driver"]

driver = ModbusDriver
