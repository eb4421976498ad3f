"""Simulated devices on the wire, each by a client or server library that the core does not use itself."""
