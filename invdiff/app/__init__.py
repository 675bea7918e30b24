"""``invdiff app``: a page on one's own machine, for the person with a photo.

Starlette and uvicorn, with a page of our own in ``page/``: three small files, no CDN, no build. Gradio would give
upload, queue and slider ready-made, and was left for four reasons. It brings dozens of packages, a web framework among
them, for one page. It serves files by their path and has to be told what not to serve; here nothing but an order's own
files has an address. Its page asks for fonts and scripts of others. And what it shows to a screen reader is not ours
to mend. Uploads are the body of the request, read as it comes, so that a limit holds and no parser of forms is needed.

``tasks`` says what can be asked for, ``orders`` what somebody asked, ``work`` does it through ``invdiff run``'s own
:class:`~invdiff.restoring.run.Run`, ``desk`` lets one in at a time, ``guard`` keeps other pages out, ``server`` has the
addresses.
"""
