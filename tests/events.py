"""TensorBoard's event files, read as TensorBoard reads them."""

from __future__ import annotations

import struct
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog


def read_events(folder: Path) -> list[tuple[int, str, float]]:
    """(step, tag, value) of all files of a folder, in the order of their names.

    What a later start has purged, by its SessionLog, is left out, as TensorBoard leaves it out.
    """
    shown: list[tuple[int, str, float]] = []
    for file in sorted(folder.iterdir(), key=lambda each: each.name):
        for event in _records(file.read_bytes()):
            if event.session_log.status == SessionLog.START:
                shown = [each for each in shown if each[0] < event.step]
            shown += [(event.step, each.tag, each.simple_value) for each in event.summary.value]
    return shown


def _records(content: bytes) -> list[Event]:
    """A record is its length (8 bytes), a checksum (4), the event, a checksum (4)."""
    events, at = [], 0
    while at + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        if at + 16 + length > len(content):
            break  # the writer was killed within it
        events.append(Event.FromString(content[at + 12 : at + 12 + length]))
        at += 16 + length
    return events
