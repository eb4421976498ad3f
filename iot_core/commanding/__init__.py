"""Commands: ordered, sent, heard of, shown done; each state in its table is true when it is said.

Commanding.order -> iot.command -> Sender -> Driver.send -> sent | delivered | succeeded
                        ^  ^                 commands/result -> Words --> delivered | succeeded | failed
                        |  '--------------------- Ledger (one write for many) <--'
                        '------ shown: a later reading -> succeeded
"""

from iot_core.commanding.campaigns import run_campaigns
from iot_core.commanding.handover import Handover
from iot_core.commanding.orders import Commanding, Wanted
from iot_core.commanding.reach import Reach
from iot_core.commanding.scheduler import Scheduler
from iot_core.commanding.twins import Twins

__all__ = ["Commanding", "Handover", "Reach", "Scheduler", "Twins", "Wanted", "run_campaigns"]
