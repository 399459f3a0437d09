"""paho's client with bounds: MQTT lets a broker announce packets of 256 MB, and paho takes them all into memory."""

from __future__ import annotations

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode

# What we are sent is acknowledgements, and "online" under one topic.
LARGEST_PACKET = 64 << 10
_QOS = 0b110  # of a PUBLISH's first byte


class BoundedClient(Client):
    """Ends a connection whose broker sends what it was never asked for; `excess` then says what that was."""

    excess = ""

    def _sock_recv(self, bufsize: int) -> bytes:
        """Of a packet's content paho asks for as much as is missing, which is all that was announced."""
        if bufsize > LARGEST_PACKET:
            self.excess = f"sends a packet of {bufsize} bytes, more than {LARGEST_PACKET}"
            raise ConnectionAbortedError(self.excess)
        return super()._sock_recv(bufsize)

    def _handle_publish(self) -> MQTTErrorCode:
        """Messages at QoS 2 would be kept until the broker lets go of them; we subscribe at QoS 0."""
        if self._in_packet["command"] & _QOS:
            self.excess = "sends a message at a QoS that nobody subscribed with"
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        return super()._handle_publish()
