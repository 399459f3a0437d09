"""Receivers that come and go, each in its own way: all arrives in the end, in order, and none of it twice as new."""

from __future__ import annotations

import json
import random
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from brokers import Broker, Listener
from faults.ledger import Ledger
from faults.running import Daemon, Hook, Post, running


@pytest.mark.slow
def test_a_broker_that_flaps(tmp_path: Path, tiny_bundle: Path, ledger: Ledger) -> None:
    """Killed and started at random; it keeps what it acknowledged, and its subscriber's session."""
    chance = random.Random(12)
    broker = Broker(tmp_path, "autosave_interval 1", "autosave_on_changes true")
    sink = f'[sinks.mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\nkeepalive = 5\n'
    post = Post(tmp_path / "post", tiny_bundle, sink, asked="episodes")
    with broker, Listener(broker.port, "edge-asd/pi/event") as subscriber, ExitStack() as stack:
        broker.save()
        daemon = stack.enter_context(running(post.config))
        daemon.first_score()
        for _ in ledger.times(3, 60):
            with ledger.trial("broker flaps") as trial:
                time.sleep(chance.uniform(0.5, 2.0))
                before = told(subscriber)
                broker.kill()
                time.sleep(chance.uniform(0.0, 2.0))
                broker.start()
                trial.again = daemon.score_again()
                assert subscriber.connected.wait(30)
                trial.count(before, told(subscriber))
                trial.double = 0  # at least once: what comes again is told by its number, see below
        post.microphone.ask("quiet")
        arrive(daemon, post, "mqtt")
        daemon.wait_for(lambda: len(set(told(subscriber))) >= len(post.kept()), 30)
        heard = [json.loads(bytes(message.payload)) for message in subscriber.heard]
        firsts = {message["sequence"]: message for message in reversed(heard)}
        order = list(dict.fromkeys(message["sequence"] for message in heard))
        assert order == sorted(order) == list(range(1, len(order) + 1))
        assert [(firsts[n]["transition"], firsts[n]["event"]["id"]) for n in order] == post.kept()[: len(order)]
        assert all(json.dumps(message) == json.dumps(firsts[message["sequence"]]) for message in heard)
        daemon.end()
    assert not post.left()


@pytest.mark.slow
def test_a_web_address_that_flaps(tmp_path: Path, tiny_bundle: Path, ledger: Ledger) -> None:
    """It takes, is broken, is busy, hangs, and hangs up."""
    chance = random.Random(13)
    with Hook() as hook:
        sink = f'[sinks.webhook]\nurl = "{hook.url}"\ntimeout = 1\n'
        post = Post(tmp_path, tiny_bundle, sink, asked="episodes")
        with running(post.config) as daemon:
            daemon.first_score()
            for number in ledger.times(5, 60):
                with ledger.trial("webhook flaps") as trial:
                    hook.answer = 204
                    time.sleep(chance.uniform(0.5, 1.5))
                    before = [f"{kind} {identity}" for kind, identity in hook.events]
                    hook.answer = (500, 429, 401, 0, -2)[number % 5]
                    trial.again = daemon.score_again()
                    time.sleep(chance.uniform(0.5, 2.5))
                    hook.answer = 204
                    trial.count(before, [f"{kind} {identity}" for kind, identity in hook.events])
            post.microphone.ask("quiet")
            arrive(daemon, post, "webhook")
            daemon.end()
        assert hook.events == post.kept()[: len(hook.events)]
        numbers = [message["sequence"] for message in hook.taken]
        assert sorted(set(numbers)) == list(range(1, max(numbers) + 1))
    assert not post.left()


def told(subscriber: Listener) -> list[str]:
    """The ids of messages, by their numbers, that came."""
    return [str(json.loads(bytes(message.payload))["sequence"]) for message in list(subscriber.heard)]


def arrive(daemon: Daemon, post: Post, sink: str) -> None:
    """Wait until the sink was told all; a courier that failed often waits for up to a minute."""
    daemon.wait_for(lambda: post.waiting(sink) == 0, 120)
