"""Documents over a bus: takes them from Kafka, NATS JetStream or 0MQ, and stores their runs.

::

    consumer.py     Consumer: the loop that all share; what is stored, committed, or set aside
    source.py       the protocol of a bus; its messages
    positions.py    the position rule: what has to come again if the process ends now
    set_aside.py    SetAside: messages that no run can be made of, in a file
    monitor.py      what an operator sees: health, status and metrics over HTTP
    kafka.py        KafkaSource: topics, partitions, consumer groups
"""

from .consumer import Consumer
from .monitor import Monitor
from .set_aside import SetAside
from .source import Assignments, Message, Source, Start

__all__ = ["Assignments", "Consumer", "Message", "Monitor", "SetAside", "Source", "Start"]
