"""Pictures: sections, descriptors, overlays, scores, maps of blocks (extra ``view``: matplotlib)."""

from .blocks import draw_blocks
from .colors import label_colors, outlines
from .descriptors import descriptor_images, descriptor_panel
from .scores import plot_scores
from .sections import draw_sections, overlay, section_panel

__all__ = [
    "descriptor_images",
    "descriptor_panel",
    "draw_blocks",
    "draw_sections",
    "label_colors",
    "outlines",
    "overlay",
    "plot_scores",
    "section_panel",
]
