"""The full screen of ``pmdaemon monit``: what is known, how it is laid out, and the widgets that show it.

`model`, `filters`, `lines`, `layout`, `header` and `spark` know nothing of a terminal; `app` and what it imports needs
Textual, and is imported when a screen is opened.
"""
