"""A listening post: what listens, for whom, with what it knows of its site, and when it raises an alert."""

from __future__ import annotations

from dataclasses import dataclass

from edge_asd import bundle as bundles
from edge_asd import progress, site
from edge_asd.bundle import Bundle
from edge_asd.deviation import Spectrum
from edge_asd.errors import ClipError, ConfigError, StorageError
from edge_asd.events import Origin
from edge_asd.scoring import Detector
from edge_asd.sensor import SensorRule, rule_of
from edge_asd.settings import DeviceConfig
from edge_asd.site import Site
from edge_asd.thresholds import chosen
from edge_asd.verdict import AlarmRule

USUAL_SENSOR = SensorRule()


@dataclass(frozen=True, eq=False)
class Post:
    """All that listening takes but the sound.

    Attributes:
        detector: the bundle's, and what was learned on site.
        origin: which device, machine, section and bundle.
        rule: when scores become an alert.
        sensor: when the microphone doesn't hear rightly.
        threshold_from: where the threshold comes from, in words.
        spectrum: of the machine when it is normal; None where nobody measured it.
        site: what was learned there; None where nothing was, or nothing that could be read.
        plain: the bundle's detector alone; None where it is the same.
    """

    detector: Detector
    origin: Origin
    rule: AlarmRule
    sensor: SensorRule = USUAL_SENSOR
    threshold_from: str = ""
    spectrum: Spectrum | None = None
    site: Site | None = None
    plain: Detector | None = None


class Opened:
    """A bundle that is open on this device: network and site are loaded once, whatever the settings around become."""

    def __init__(
        self, config: DeviceConfig, bundle: Bundle | None = None, detector: Detector | None = None, role: str = ""
    ) -> None:
        """Read it.

        Args:
            config: the settings.
            bundle, detector: in place of those that the settings name, where they are open already.
            role: what the bundle does here, for what is said of it.

        Raises:
            ConfigError: the bundle doesn't have the section.
            BundleError, MissingRequirement: it can't be read or run here.
        """
        self._role = role or "listening"
        self._bundle = bundle or bundles.read(config.bundle)
        self._section = config.section or _only_section(config, self._bundle)
        if self._section not in self._bundle.manifest.sections:
            known = ", ".join(sorted(self._bundle.manifest.sections))
            raise ConfigError(f"section: found {self._section!r}, which {config.bundle} doesn't have; it has {known}.")
        runtime = config.model.runtime or None
        self._detector = detector or self._bundle.detector(threads=config.model.threads, runtime=runtime)
        self._known: tuple[Site | None, Detector] = (None, self._detector)
        self._fingerprint: site.Fingerprint = None  # of what is known

    def post(self, config: DeviceConfig) -> Post:
        """The post with these settings and what was learned on site; what can't be read there is said and left out."""
        manifest, name = self._bundle.manifest, self._section
        learned, detector = self._learned(config)
        threshold, source = self._threshold(config, learned)
        alarm = config.alarm
        return Post(
            detector=detector,
            origin=Origin(manifest.machine, name, self._bundle.digest, config.device),
            rule=AlarmRule(threshold, alarm.release, alarm.minimum_seconds, alarm.cooldown_seconds),
            sensor=rule_of(config.sensor, learned.level_dbfs if learned else None),
            threshold_from=source,
            spectrum=learned.spectrum if learned else manifest.sections[name].spectrum,
            site=learned,
            plain=self._detector,
        )

    def _learned(self, config: DeviceConfig) -> tuple[Site | None, Detector]:
        """What was learned, and the detector that knows it: anew only where another record is in force by now."""
        now = site.fingerprint(config.state, self._fingerprint)
        if now != self._fingerprint:
            try:
                self._known = self._joined(site.read(config.state), config)
                self._fingerprint = now
            except (StorageError, ClipError) as error:
                less = "with what was learned before" if self._known[0] else "without what was learned on site"
                progress.say(f"edge-asd: {self._role} {less}: {error}")
        return self._known

    def _joined(self, found: Site | None, config: DeviceConfig) -> tuple[Site | None, Detector]:
        if found is None:
            return None, self._detector
        if (found.machine, found.section) != (self._bundle.manifest.machine, self._section):
            progress.say(f"edge-asd: the site was learned for {found.machine} {found.section}; it isn't used")
            return None, self._detector
        known = site.learned(config.state, found, self._bundle, self._detector)
        return found, site.joined(self._detector, self._section, known)

    def _threshold(self, config: DeviceConfig, learned: Site | None) -> tuple[float, str]:
        """The threshold, and where it comes from."""
        choice, limits = config.alarm.threshold, self._bundle.manifest.sections[self._section].thresholds
        if choice != "site":
            words = f"the bundle's {choice}" if isinstance(choice, str) else "device.toml"
            return chosen(limits, choice), words
        if learned and learned.promises(self._bundle):
            return learned.threshold, f"the site, {learned.made_utc}"
        if learned:
            return limits.alarm, "the bundle's alarm: the site's was measured with another; run `edge-asd commission`"
        return limits.alarm, "the bundle's alarm"


def _only_section(config: DeviceConfig, bundle: Bundle) -> str:
    sections = sorted(bundle.manifest.sections)
    if len(sections) > 1:
        raise ConfigError(f"section: {config.bundle} has {', '.join(sections)}; say which one this device hears.")
    return sections[0]
