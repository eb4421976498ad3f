"""Every request and answer of the HTTP API, shared by server and client; OpenAPI is generated from them.

Requests refuse keys that are not listed. Answers take any, so that an older client reads a newer server.
Times are RFC 3339 in UTC. Lists stand in `items`.
"""

from iot_core.api.shapes.access import *
from iot_core.api.shapes.alarm import *
from iot_core.api.shapes.area import *
from iot_core.api.shapes.audit import *
from iot_core.api.shapes.base import *
from iot_core.api.shapes.batch import *
from iot_core.api.shapes.center import *
from iot_core.api.shapes.certificate import *
from iot_core.api.shapes.command import *
from iot_core.api.shapes.commissioning import *
from iot_core.api.shapes.credential import *
from iot_core.api.shapes.device import *
from iot_core.api.shapes.escalation import *
from iot_core.api.shapes.firmware import *
from iot_core.api.shapes.health import *
from iot_core.api.shapes.held import *
from iot_core.api.shapes.inbox import *
from iot_core.api.shapes.kpi import *
from iot_core.api.shapes.place import *
from iot_core.api.shapes.profile import *
from iot_core.api.shapes.push import *
from iot_core.api.shapes.report import *
from iot_core.api.shapes.rule import *
from iot_core.api.shapes.schedule import *
from iot_core.api.shapes.telemetry import *
from iot_core.api.shapes.twin import *
from iot_core.api.shapes.window import *
