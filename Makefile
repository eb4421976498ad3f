# Each target is a script of its own, for machines without make. Arguments: make demo ARGS="--devices 30".
.PHONY: bench demo demo-timescaledb test test-faults check messages clean

demo:
	@scripts/demo $(ARGS)

demo-timescaledb:
	@scripts/demo-timescaledb $(ARGS)

test:
	@scripts/test $(ARGS)

test-faults: # minutes: every fault of docs/reliability.md, whose tables it writes
	@scripts/test-faults $(ARGS)

bench: # half an hour, alone on the machine; writes docs/performance.md
	@scripts/bench

check:
	@scripts/check

messages: # compile the sentences after editing iot_core/messages/*/*.po
	@scripts/setup
	@.venv/bin/python -m iot_core.messages

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
