"""A city on a laptop: physics from a seed, spoken by real protocol clients and servers, and a verdict on what arrived.

physics --values--> device --profile backwards--> face (MQTT, CoAP, Modbus) ~~~> core
                                                    |                             | tables      | webhook
                                                    v                             v             v
                                                  ledger ----------------------> verdict <--- receiver
"""
