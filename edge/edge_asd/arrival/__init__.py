"""What a device does before edge-asd is on it: it receives files, lays a runtime out of wheels, and hands over to that.

The workstation sends the text of these modules over SSH (`SOURCES`, in this order) and the device's own Python runs
them, as root. So they need nothing but each other and a standard library, 3.9 or later, and no network.

    places    where things lie, and whether a file still is what it was
    uploads   files come, broken uploads go on
    runtimes  a virtual environment, of wheels that came
    removal   all of it goes again
    desk      one request after the other
"""

SOURCES = ("places", "uploads", "runtimes", "removal", "desk")
