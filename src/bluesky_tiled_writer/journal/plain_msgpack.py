"""msgpack as it is, whatever other packages of this process have made of it.

bluesky-kafka, for one, has `msgpack_numpy` put classes of its own in place of those of msgpack, for
the whole process. These change what becomes of arrays, and load pickles that they find.
"""

from msgpack import ExtType, OutOfData

try:
    from msgpack._cmsgpack import Packer, Unpacker, unpackb
except ImportError:  # msgpack was built without a compiler
    from msgpack.fallback import Packer, Unpacker, unpackb

__all__ = ["ExtType", "OutOfData", "Packer", "Unpacker", "unpackb"]
