"""The machines of the plant: what each one is, and what changes between its source and its target domain."""

from __future__ import annotations

from edge_asd_tools.synth.acoustics import Factory, Resonance, Room
from edge_asd_tools.synth.machines import Bearing, Fan, Gearbox, Setting, Unit

SECTIONS = 6  # units of each machine type


def hall(seed: int, snr_db: float) -> Factory:
    """A quiet hall with a compressor next door; `seed` is the place in it."""
    return Factory(Room(0.35, 0.6, seed), snr_db, 1.0, 0.35, 1180.0, 0.25, 4.0)


def workshop(seed: int, snr_db: float) -> Factory:
    """A busy workshop: harder walls, a saw, more blows, a brighter background; `seed` is the place in it."""
    return Factory(Room(0.45, 0.7, seed), snr_db, 0.85, 0.25, 2860.0, 0.30, 8.0)


def modes(*each: tuple[float, float, float]) -> tuple[Resonance, ...]:
    """Resonances from (Hz, damping ratio, gain)."""
    return tuple(Resonance(*mode) for mode in each)


# Deep-groove ball bearings: (balls, ball mm, pitch mm, contact angle, outer ring's Hz)
_6205 = Bearing(9, 7.94, 39.0, 0.0, 3400.0)
_6206 = Bearing(9, 9.53, 46.0, 0.0, 2900.0)
_6207 = Bearing(9, 11.11, 53.5, 0.0, 2500.0)
_6304 = Bearing(7, 9.53, 36.0, 0.0, 3900.0)
_7206 = Bearing(14, 9.53, 46.0, 25.0, 3100.0)

FANS: tuple[Fan, ...] = (
    # 00: the target domain runs slower
    Fan(
        0, 1480, _6205, modes((310, 0.03, 1.2), (890, 0.02, 1.6), (2150, 0.02, 1.2)),
        Setting((1440, 1480, 1520), (1, 2), hall(100, 6.0)), Setting((1360, 1400), (1, 2), hall(100, 6.0)), 7,
    ),
    # 01: the target domain is throttled more
    Fan(
        1, 2200, _6304, modes((420, 0.03, 1.4), (1250, 0.025, 1.8), (2700, 0.02, 1.0)),
        Setting((2160, 2200, 2240), (1, 2), hall(101, 7.0)), Setting((2160, 2200, 2240), (3,), hall(101, 7.0)), 5,
    ),
    # 02: the target domain is another hall
    Fan(
        2, 1180, _6206, modes((260, 0.04, 1.2), (640, 0.02, 1.6), (1720, 0.02, 1.5)),
        Setting((1160, 1180, 1200), (2, 3), hall(102, 6.0)), Setting((1160, 1180, 1200), (2, 3), workshop(202, 5.0)), 9,
    ),
    Fan(
        3, 960, _6207, modes((190, 0.04, 1.3), (720, 0.03, 1.5), (1480, 0.02, 1.3)),
        Setting((940, 960, 980), (1, 2), hall(103, 6.0)), Setting((1060, 1100), (1, 2), hall(103, 6.0)), 11,
    ),
    Fan(
        4, 2860, _6304, modes((520, 0.03, 1.2), (1580, 0.02, 1.7), (3100, 0.02, 1.1)),
        Setting((2820, 2860, 2900), (2, 3), hall(104, 7.0)), Setting((2820, 2860, 2900), (1,), hall(104, 7.0)), 6,
    ),
    Fan(
        5, 1750, _6205, modes((350, 0.03, 1.5), (1020, 0.02, 1.4), (2400, 0.025, 1.4)),
        Setting((1720, 1750, 1780), (1, 2), hall(105, 6.0)), Setting((1720, 1750, 1780), (1, 2), workshop(205, 5.0)), 8,
    ),
)  # fmt: skip

GEARBOXES: tuple[Gearbox, ...] = (
    # 00: the target domain runs faster
    Gearbox(
        0, 1470, _6206, modes((480, 0.03, 1.5), (1310, 0.02, 1.8), (2600, 0.02, 1.6)),
        Setting((1440, 1470, 1500), (1, 2), hall(110, 6.0)), Setting((1530, 1560), (1, 2), hall(110, 6.0)), 23, 61,
    ),
    # 01: the target domain carries more
    Gearbox(
        1, 980, _6207, modes((390, 0.03, 1.6), (1060, 0.025, 1.6), (2050, 0.02, 1.8)),
        Setting((960, 980, 1000), (1, 2), hall(111, 6.0)), Setting((960, 980, 1000), (4,), hall(111, 6.0)), 31, 47,
    ),
    # 02: the target domain is another hall
    Gearbox(
        2, 2400, _7206, modes((650, 0.03, 1.4), (1650, 0.02, 1.6), (3200, 0.02, 1.5)),
        Setting((2360, 2400, 2440), (2, 3), hall(112, 6.0)), Setting((2360, 2400, 2440), (2, 3), workshop(212, 5.0)),
        17, 72,
    ),
    Gearbox(
        3, 720, _6207, modes((330, 0.04, 1.5), (940, 0.02, 1.7), (1880, 0.02, 1.5)),
        Setting((700, 720, 740), (1, 2), hall(113, 6.0)), Setting((620, 650), (1, 2), hall(113, 6.0)), 37, 53,
    ),
    Gearbox(
        4, 1760, _6205, modes((560, 0.03, 1.5), (1480, 0.02, 1.5), (2900, 0.02, 1.7)),
        Setting((1730, 1760, 1790), (2, 3), hall(114, 7.0)), Setting((1730, 1760, 1790), (1,), hall(114, 7.0)), 19, 67,
    ),
    Gearbox(
        5, 1150, _7206, modes((440, 0.03, 1.3), (1180, 0.02, 1.9), (2350, 0.02, 1.5)),
        Setting((1130, 1150, 1170), (1, 2), hall(115, 6.0)), Setting((1130, 1150, 1170), (1, 2), workshop(215, 5.0)),
        29, 59,
    ),
)  # fmt: skip

PLANT: dict[str, tuple[Unit, ...]] = {"fan": FANS, "gearbox": GEARBOXES}
