"""The one error of this library."""

from __future__ import annotations


class Refused(Exception):
    """What was given is not what it claims to be; the text says what is wrong and shows no secret."""
