"""Alarms: rules are data, state lives in PostgreSQL, an alarm and its message are one transaction with the reading.

evaluate.Evaluator    judges each batch inside its transaction
timers.run_timers     `for:` timers and silence
lifecycle             list, show, acknowledge
rules                 the pure state machine;  case: a rule at a source under lock;  ledger: the SQL of both
"""
