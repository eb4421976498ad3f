"""PostgreSQL and TimescaleDB: connection, migrations, telemetry tables, reading."""
