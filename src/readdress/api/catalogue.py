"""Every operation of the service, in one list."""

from readdress.api import activity, deliveries, email_addresses, instances, messages, tags
from readdress.api.operation import Operations

OPERATIONS = Operations(
    email_addresses.operations,
    instances.operations,
    tags.operations,
    messages.operations,
    activity.operations,
    deliveries.operations,
)
