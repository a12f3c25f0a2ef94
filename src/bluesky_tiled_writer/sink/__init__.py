"""The only package that writes to Tiled: one method a step.

Requests go through the http client of `tiled.client`, which brings addresses, credentials and the
in-process transport; the structures and encodings are Tiled's own. No request on the normal path
is a GET: what a node is made of is known from the step, how many rows it holds from having sent
them. Where a request failed and may have taken effect, the server is asked.

::

    TiledSink                              tiled_sink.py   carries out steps; runs and streams
    TableNode ArrayNode RaggedNode FilesNode               what is known of a node, and its writes
    StoredNode                             node.py         what they have in common
    rows_held                              held.py         what a run holds before anything is sent
    Lead                                   lead.py         requests that follow before an answer
    Requests                               requests.py     HTTP, and the errors that come of it
"""

from .requests import in_process
from .tiled_sink import TiledSink

__all__ = ["TiledSink", "in_process"]
