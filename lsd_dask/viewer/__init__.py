"""The viewer: volumes, and segmentations at any threshold, in a browser (extra ``view``: neuroglancer).

Neuroglancer [1]_ comes with its Python package, and is served by this process: nothing is fetched from
elsewhere. Voxels are read when the browser asks for them.

References
----------
.. [1] J. Maitin-Shepard et al., Neuroglancer. https://github.com/google/neuroglancer
"""

from .opening import view
from .session import Viewer

__all__ = ["Viewer", "view"]
