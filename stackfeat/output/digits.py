"""Digits: numbers as people read them, with as many digits as their standard error allows."""

from __future__ import annotations

import math

_DASH = "–"
_LARGE = 1e9
"""Smaller numbers are written out."""


def places_of(se: float | None) -> int | None:
    """Return the decimals of a number with this standard error, so that two digits of the error show.

    None where there is no error, or it is too small to say anything.

    Examples
    --------
    >>> places_of(0.0123), places_of(12.3), places_of(None)
    (3, 0, None)
    """
    if se is None or not math.isfinite(se) or se <= 0:
        return None
    places = 1 - math.floor(math.log10(se))
    return max(places, 0) if places <= 10 else None


def places_worth(error: float) -> int:
    """Return how many decimals show two digits of a standard error; four where there is none."""
    places = places_of(error)
    return 4 if places is None else places


def rounded(value: float, error: float) -> str:
    """Return a number with the decimals that a standard error is worth; what is rounded to zero has no sign.

    Examples
    --------
    >>> rounded(0.00213, 0.0123), rounded(-1.1e-16, 0.0123)
    ('0.002', '0.000')
    """
    places = places_worth(error)
    return f"{round(value, places) + 0.0:.{places}f}"


def to_error(value: float | None, se: float | None) -> str:
    """Return a number to the second digit of its standard error; to five digits where that is not known.

    Examples
    --------
    >>> to_error(0.123456, 0.0123), to_error(0.123456, None)
    ('0.123', '0.12346')
    """
    if value is None or not math.isfinite(value):
        return _DASH
    places = places_of(se)
    return significant(value) if places is None else f"{value:.{places}f}"


def with_error(value: float | None, se: float | None) -> str:
    """Return a number and its standard error.

    Examples
    --------
    >>> with_error(0.123456, 0.0123)
    '0.123 ± 0.012'
    """
    places = places_of(se)
    return to_error(value, se) if places is None else f"{to_error(value, se)} ± {se:.{places}f}"


def significant(value: float | None, digits: int = 5) -> str:
    """Return a number to so many digits; a dash for none.

    Examples
    --------
    >>> significant(0.123456), significant(51234.5, 3), significant(None)
    ('0.12346', '51234', '–')
    """
    if value is None or not math.isfinite(value):
        return _DASH
    return f"{value:.0f}" if 10**digits <= abs(value) < _LARGE else f"{value:.{digits}g}"
