"""Steps to HTTP: the only room that writes to Tiled.

Requests go through the http client of `tiled.client`, which brings address, credentials and the
in-process transport; structures and encodings are Tiled's own. On the normal path there is no GET:
the steps say what a node is made of, and the answers how many rows it holds. The server is asked
only after a request that failed and may have taken effect.

::

    tiled_sink.py   TiledSink: executes steps, by itself on runs and streams, else by a node
    node.py         StoredNode: what is known of a node; create, check, delete
    tables.py       TableNode: rows are appended, and told apart by what they hold
    arrays.py       ArrayNode: blocks at an offset
    ragged.py       RaggedNode: rows at the end
    files.py        FilesNode: registered on the files of detectors
    items.py        what requests and answers say of a node
    metadata.py     MetadataUpdates: changes to the metadata of any node
    held.py         rows_held: what a run holds that Tiled had before
    ownership.py    Ownership: which of several processes writes a run
    sort_stored.py  sort_stored: gives the tables of stored runs an order
    requests.py     Requests: one request, one answer or one error
    connection.py   Connection: to a server, which may be down when the writer is made
    destination.py  TiledDestination: a container that gets runs, of the writer or of a journal
    preflight.py    Preflight: does the server do what a run needs
    opening.py      Opening: opens a client, once the server answers
    address.py      Address: of a container, read without asking the server
"""

from .address import Address
from .connection import Connection, connect
from .destination import TiledDestination
from .opening import Opening
from .preflight import Preflight
from .sort_stored import SortedTable, sort_stored
from .tiled_sink import TiledSink

__all__ = [
    "Address",
    "Connection",
    "Opening",
    "Preflight",
    "SortedTable",
    "TiledDestination",
    "TiledSink",
    "connect",
    "sort_stored",
]
