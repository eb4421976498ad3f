"""The technician's Modbus tools: they run on a laptop, with neither server nor login, from the client's packages."""
