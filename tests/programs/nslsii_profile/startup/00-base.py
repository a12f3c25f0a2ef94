"""What the profile of a beamline at NSLS-II does, with our writer in place of its inserter."""

import logging
import os

import nslsii
from bluesky.plans import count, scan
from IPython import get_ipython
from ophyd.sim import det, motor

from bluesky_tiled_writer import TiledWriter

__all__ = ["count", "det", "motor", "scan"]  # for those who type

namespace = get_ipython().user_ns
nslsii.configure_base(
    namespace,
    publish_documents_with_kafka="tst",
    redis_url="localhost",
    redis_prefix="tst-",
)
for handler in logging.getLogger("nslsii").handlers:
    logging.getLogger("bluesky_tiled_writer").addHandler(handler)

key = os.environ["TILED_BLUESKY_WRITING_API_KEY_TST"]
tw = TiledWriter.from_uri(os.environ["TILED_URI"], api_key=key)
namespace["RE"].subscribe(tw)
print("The profile went on to its last line.")
