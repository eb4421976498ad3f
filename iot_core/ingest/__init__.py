"""The path from an uplink to COMMIT and acknowledgement.

emit -> queue -> prepare (pure: identify, decode, check) -> flush (one transaction) -> done()
                                                              | merge within the batch
                                                              | rules -> alarms, outbox
                                                              | telemetry, status, seq ranges, held
"""
