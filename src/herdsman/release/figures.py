"""Numbers as people read them."""

from __future__ import annotations

SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def count(value: float) -> str:
    """1234567 -> 1,234,567."""
    return f"{value:,.0f}"


def short_count(value: float) -> str:
    """1234567 -> 1.23 M; below 10,000 in full."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            scaled = value / (1e3 if unit == "k" else size)
            return f"{scaled:.3g} {unit}" if scaled < 1000 else f"{scaled:.0f} {unit}"
    return count(value)


def percent(share: float, digits: int = 1) -> str:
    """0.1234 -> 12.3%; what is too small to show but not nothing is <0.1%."""
    least = 10.0**-digits
    if 0 < 100 * share < least / 2:
        return f"<{least:.{digits}f}%"
    return f"{100 * share:.{digits}f}%"


def interval(value: float, low: float, high: float) -> str:
    """Shares as 41.2% (38.0 to 44.5)."""
    return f"{percent(value)} ({100 * low:.1f} to {100 * high:.1f})"


def duration(seconds: float) -> str:
    """Seconds as 8.4 s, 3 min 12 s, 2 h 5 min or 3.2 days."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    if seconds < 48 * 3600:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"
    return f"{seconds / 86400:.1f} days"


def size(amount: float) -> str:
    """Bytes in decimal units: 1,234 B, 12.3 kB, 4.56 MB."""
    for scale, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if amount >= scale:
            return f"{amount / scale:.3g} {unit}"
    return f"{amount:.0f} B"


def power_of_ten(value: float) -> str:
    """3.8e25 -> 3.8 × 10²⁵."""
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')} × 10{str(int(exponent)).translate(SUPERSCRIPTS)}"


def watt_hours(value: float) -> str:
    """Energy in Wh or kWh."""
    return f"{value / 1000:.3g} kWh" if value >= 1000 else f"{value:.2g} Wh" if value < 10 else f"{value:.0f} Wh"


def grams(value: float) -> str:
    """Mass in g, kg or t."""
    if value >= 1e6:
        return f"{value / 1e6:.3g} t"
    return f"{value / 1000:.3g} kg" if value >= 1000 else f"{value:.2g} g" if value < 10 else f"{value:.0f} g"
