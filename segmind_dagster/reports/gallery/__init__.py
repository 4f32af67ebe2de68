"""Galleries: a page a prompt set that anybody can open, and the same pictures as one contact sheet.

`cards` reads what a set holds from the ledger, `axes` says what it can be laid out by, `previews` makes small
versions, `page` and `sheet` draw (with `lettering`), and `writing` puts it all in place.
"""

from segmind_dagster.reports.gallery.writing import Gallery, gallery_keys, write_gallery

__all__ = ["Gallery", "gallery_keys", "write_gallery"]
