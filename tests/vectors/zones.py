#!/usr/bin/env python3
"""Writes zones.txt: when the clocks of every IANA time zone change, as Python and PyPI's tzdata know it.

    python3 -m venv /tmp/zones && /tmp/zones/bin/pip install tzdata && /tmp/zones/bin/python tests/vectors/zones.py

It shares neither code nor data files with what it judges: Python's zoneinfo is asked for offsets, nothing else.
"""

import pathlib
import sys
import zoneinfo
from datetime import datetime, timedelta, timezone
from importlib import resources

import tzdata

HERE = pathlib.Path(__file__).parent
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
DAY = 86_400
SPELT_UNTIL = int(datetime(2038, 1, 1, tzinfo=timezone.utc).timestamp())
SAMPLED_UNTIL = int(datetime(2150, 1, 1, tzinfo=timezone.utc).timestamp())
SAMPLE = 127 * 3_600  # Less than the week by which a wrong rule is wrong, and at ever other hours.
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def offset_at(zone, seconds):
    return int((EPOCH + timedelta(seconds=seconds)).astimezone(zone).utcoffset().total_seconds())


def changes_of(zone):
    """The offset at the epoch, and each (instant, new offset) until 2038: found by asking for each day."""
    before, found = offset_at(zone, 0), []
    first = before
    for day in range(0, SPELT_UNTIL, DAY):
        after = offset_at(zone, day + DAY)
        if after != before:
            low, high = day, day + DAY
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset_at(zone, middle) == before else (low, middle)
            found.append((high, after))
            before = after
    return first, found


def base36(number):
    text = ""
    while True:
        number, digit = divmod(number, 36)
        text = DIGITS[digit] + text
        if number == 0:
            return text


def fnv1a(text):
    state = 0xCBF29CE484222325
    for byte in text.encode():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    return state


def line_of(names, zone):
    first, changes = changes_of(zone)
    offsets = list(dict.fromkeys([first] + [offset for _, offset in changes]))
    spelt, last = [], 0
    for instant, offset in changes:
        spelt.append(base36(instant - last) + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[offsets.index(offset)])
        last = instant
    samples = range(SPELT_UNTIL + SAMPLE, SAMPLED_UNTIL, SAMPLE)
    later = "".join(f"{offset_at(zone, instant)}," for instant in samples)
    return ";".join([
        " ".join(names),
        " ".join(map(str, offsets)),
        "".join(spelt),
        f"{fnv1a(later):016x}",
    ])


def main():
    zoneinfo.reset_tzpath(())  # PyPI's tzdata alone, not what the machine has.
    root = resources.files("tzdata") / "zoneinfo"
    alike = {}
    for name in sorted((resources.files("tzdata") / "zones").read_text().split()):
        alike.setdefault((root / name).read_bytes(), []).append(name)
    lines = [f"# IANA {tzdata.IANA_VERSION}, PyPI tzdata {tzdata.__version__}, Python {sys.version.split()[0]}"]
    lines += [line_of(names, zoneinfo.ZoneInfo(names[0])) for names in alike.values()]
    (HERE / "zones.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
