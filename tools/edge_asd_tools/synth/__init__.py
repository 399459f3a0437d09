"""A synthetic plant: fans and gearboxes that run, wear and break, recorded in the layout of DCASE 2022 Task 2.

    units.py      which machines stand in the plant, and where
    machines.py   how a fan or a gearbox turns, and what its shaft, blades, teeth and flow do
    faults.py     what a broken bearing, an imbalance, a rub or a loose part adds
    signals.py    tones locked to a rotation, coloured noise, modes that ring
    acoustics.py  how structure, room and factory turn forces into what a microphone hears
    recording.py  all of these together: one clip
    plant.py      which clips there are, and what they are called
    writing.py    the folder, written whole or not at all
    commands.py   `edge-asd data synth`

Everything here is made up: good for trying the program, for demonstrations and for tests, not for judging a method.
"""
