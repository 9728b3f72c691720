"""National identity numbers: those whose form and check digits, or a label before them, make a false alarm rare."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date

# All that may be one, whole; `is_national_id` decides.
CANDIDATE = re.compile(
    r"(?<![\w.,+/-])(?<![0-9][ -])(?:[A-Z][A-Z](?:[A-Z]{4}[0-9]{2}[A-Z][0-9]{2}[A-Z][0-9]{3}[A-Z]"
    r"|(?: ?[0-9]{2}){3} ?[A-D])|[XYZ]-?[0-9]{7}-?[A-Z]|[0-9](?:[ ./-]?[0-9]){8,17}+[X]?|[0-9]{8}-?[A-Z])"
    r"(?![\w-]|[., ][0-9])"
)

_VERHOEFF_PRODUCT = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_VERHOEFF_TURN = (
    "0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip
_ODD_CODICE = dict(zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", (
    1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22,
    25, 24, 23,
), strict=True))  # fmt: skip


def luhn(digits: str) -> bool:
    """Luhn's check (ISO/IEC 7812-1): every second digit from the right doubled, the digit sums divisible by 10."""
    doubled = "0246813579"
    total = sum(int(digit) for digit in digits[-1::-2]) + sum(int(doubled[int(digit)]) for digit in digits[-2::-2])
    return total % 10 == 0


def _weighted(digits: str, weights: Iterable[int]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def _is_date(year: str, month: str, day: str) -> bool:
    """True for a day of a year of two or four digits."""
    try:
        return date(int(year) if len(year) == 4 else 2000 + int(year), int(month), int(day)).year < 2100
    except ValueError:
        return False


def _us_ssn(digits: str) -> bool:
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    used_in_public = digits in ("078051120", "219099999", "123456789")
    return not (area in ("000", "666") or area[0] == "9" or group == "00" or serial == "0000" or used_in_public)


def _uk_nino(code: str) -> bool:
    return (
        code[:2] not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")
        and code[0] not in "DFIQUV"
        and code[1] not in "DFIOQUV"
    )


def _de_id(digits: str) -> bool:
    times = sorted(digits[:10].count(digit) for digit in set(digits[:10]))
    product = 10
    for digit in digits[:10]:  # ISO 7064, mod 11, 10
        product = ((product + int(digit)) % 10 or 10) * 2 % 11
    return (
        digits[0] != "0"
        and times[-1] in (2, 3)
        and times.count(1) == len(times) - 1
        and (11 - product) % 10 == int(digits[10])
    )


def _fr_nir(digits: str) -> bool:
    is_month = 1 <= int(digits[3:5]) <= 12 or int(digits[3:5]) >= 20  # from 20 on: unknown
    return is_month and 97 - int(digits[:13]) % 97 == int(digits[13:])


def _es_dni(code: str) -> bool:
    number = code[:-1].replace("X", "0").replace("Y", "1").replace("Z", "2")
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == code[-1]


def _it_codice(code: str) -> bool:
    even = sum(int(character, 36) - (0 if character.isdigit() else 10) for character in code[1:15:2])
    return (even + sum(_ODD_CODICE[character] for character in code[0:15:2])) % 26 == ord(code[15]) - ord("A")


def _nl_bsn(digits: str) -> bool:
    return digits != "000000000" and (_weighted(digits[:8], range(9, 1, -1)) - int(digits[8])) % 11 == 0


def _br_cpf(digits: str) -> bool:
    def check(size: int) -> int:
        return _weighted(digits[:size], range(size + 1, 1, -1)) * 10 % 11 % 10

    return len(set(digits)) > 1 and check(9) == int(digits[9]) and check(10) == int(digits[10])


def _in_aadhaar(digits: str) -> bool:
    check = 0
    for at, digit in enumerate(reversed(digits)):
        check = int(_VERHOEFF_PRODUCT[check][int(_VERHOEFF_TURN[at % 8][int(digit)])])
    return digits[0] in "23456789" and check == 0


def _cn_id(code: str) -> bool:
    check = "10X98765432"[sum(int(digit) * pow(2, 17 - at) for at, digit in enumerate(code[:17])) % 11]
    return code[6:8] in ("19", "20") and _is_date(code[6:10], code[10:12], code[12:14]) and check == code[17]


def _pl_pesel(digits: str) -> bool:
    month = int(digits[2:4]) % 20  # the tens tell the century
    return _is_date(digits[:2], str(month), digits[4:6]) and _weighted(digits, (1, 3, 7, 9) * 2 + (1, 3, 1)) % 10 == 0


def _se_number(digits: str) -> bool:
    last = digits[-10:]
    return _is_date(digits[:-8], digits[-8:-6], digits[-6:-4]) and luhn(last)


def _kr_rrn(digits: str) -> bool:
    check = (11 - _weighted(digits[:12], (*range(2, 10), *range(2, 6))) % 11) % 10
    return _is_date(digits[:2], digits[2:4], digits[4:6]) and check == int(digits[12])


def _ch_ahv(digits: str) -> bool:
    return _weighted(digits, (1, 3) * 6 + (1,)) % 10 == 0  # EAN-13


@dataclass(frozen=True)
class _Id:
    """A kind of number: its form, its check on the characters without separators, and what must stand before it."""

    form: re.Pattern[str]
    valid: Callable[[str], bool]
    label: re.Pattern[str] | None = None


def _id(form: str, valid: Callable[[str], bool], label: str = "") -> _Id:
    return _Id(re.compile(form), valid, re.compile(rf"(?<![^\W_])(?:{label})(?![^\W_])", re.I) if label else None)


_IDS = (
    _id(r"\d{3}-\d\d-\d{4}", _us_ssn),
    _id(r"[A-Z]{2} \d\d \d\d \d\d [A-D]", _uk_nino),
    _id(r"[A-Z]{2}\d{6}[A-D]", _uk_nino, r"national insurance|nino|ni (?:no|number)"),
    _id(r"\d\d ?\d{3} ?\d{3} ?\d{3}", _de_id, r"steuer-?(?:id|nr|nummer|identifikationsnummer)?|idnr|tax id|tin"),
    _id(r"[12] ?\d\d ?\d\d ?\d\d ?\d{3} ?\d{3} ?\d\d", _fr_nir),
    _id(r"(?:\d{8}|[XYZ]-?\d{7})-?[A-Z]", _es_dni, r"dni|nie|nif|documento"),
    _id(r"[A-Z]{6}\d\d[A-Z]\d\d[A-Z]\d{3}[A-Z]", _it_codice),
    _id(r"\d{9}|\d{4}[. ]\d\d[. ]\d{3}", _nl_bsn, r"bsn|burgerservicenummer|sofi-?nummer"),
    _id(r"\d{3}\.\d{3}\.\d{3}-\d\d", _br_cpf),
    _id(r"\d{11}", _br_cpf, r"cpf"),
    _id(r"\d{4} ?\d{4} ?\d{4}", _in_aadhaar, r"aadhaa?r|uidai|uid"),
    _id(r"\d{17}[\dX]", _cn_id),
    _id(r"\d{11}", _pl_pesel, r"pesel"),
    _id(r"(?:\d\d)?\d{6}-?\d{4}", _se_number, r"person(?:nummer|nr)|pnr"),
    _id(r"\d{6}-[1-8]\d{6}", _kr_rrn),
    _id(r"756\.\d{4}\.\d{4}\.\d\d", _ch_ahv),
)


def is_national_id(found: str, before: str) -> bool:
    """True if a match of `CANDIDATE` is a number of one of 14 countries, by its check digits and what stands before."""
    code = ""
    for kind in _IDS:
        if kind.form.fullmatch(found) and (kind.label is None or kind.label.search(before)):
            code = code or re.sub(r"[ ./-]", "", found)
            if kind.valid(code):
                return True
    return False
