"""One answer's denoising as a moving picture: which masks each pass filled in, how sure the model was, and
what a rule took back. Some settings side by side.

    from llada_exp.animation import ask, page, read_rows, traced
    page([traced(read_rows(path)) for path in paths])  # HTML that plays without a network

Joins what `commits.parquet` or a server's trace says with a page or a GIF; decodes nothing itself.
"""

from llada_exp.animation.frames import frames
from llada_exp.animation.page import inline, page
from llada_exp.animation.sources import VANILLA, ask, fields, read_rows
from llada_exp.animation.traced import TracedAnswer, traced

__all__ = ["VANILLA", "TracedAnswer", "ask", "fields", "frames", "inline", "page", "read_rows", "traced"]
