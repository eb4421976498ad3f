"""Areas, devices, units and who may speak for them; one module each, SQL beside its function."""
