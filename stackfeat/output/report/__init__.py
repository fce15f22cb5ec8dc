"""The report of a run: what it found, in numbers, pictures and sentences, as one static page.

`content` collects plain values of a completed run (``report.json``), `pictures` has a class for each picture,
`page` turns values into HTML; whoever reads a run folder later needs no store for that.
"""
