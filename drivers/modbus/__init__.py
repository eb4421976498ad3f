"""Modbus over TCP, RTU over TCP and serial RTU: the driver (poller.py) and the technician's tools (commands.py).

poller -> gateway -> link -> frames, pdu
tools: commands -> scan, probe -> link

Nothing is imported here: the tools run on a laptop that has none of the server's packages.
"""
