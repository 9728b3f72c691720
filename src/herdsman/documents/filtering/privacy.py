"""Private data masked: e-mail addresses, phone, card, account and national identity numbers, public IP addresses.

A match is replaced by a form that standards keep for examples, so code that holds one still reads as code, the text
keeps its lines, and masking twice changes nothing. Precision comes before recall: version numbers, decorators,
loopback and example addresses are not private.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from herdsman.documents.filtering.national_ids import CANDIDATE, is_national_id, luhn

EMAIL, PHONE, IP, CARD, IBAN, NATIONAL_ID = "email", "phone", "ip", "card", "iban", "national id"
EMAIL_PLACEHOLDER = "name@example.org"  # RFC 2606
PHONE_PLACEHOLDER = "+1 555 555 0100"  # 555-0100 to 555-0199 are kept for fiction in North America
IPV4_PLACEHOLDER, IPV6_PLACEHOLDER = "192.0.2.1", "2001:db8::1"  # RFC 5737, RFC 3849
CARD_PLACEHOLDER = "0000 0000 0000 0000"
IBAN_PLACEHOLDER = "XX00 0000 0000 0000"
NATIONAL_ID_PLACEHOLDER = "000-00-0000"

# Lies in each phone, card, account and identity number and address, and begins with a digit, which is fast to find.
_SIGN = re.compile(
    r"[0-9](?:[0-9 ().-]{5,}[0-9]|[0-9a-fA-F]{3}:[0-9a-fA-F]{0,4}:"
    r"|[0-9](?:[0-9]{4}[A-D]|[A-Z][0-9]{2}[A-Z][0-9]{3}[A-Z]))"
)
_EMAIL = re.compile(
    r"(?<![\w.%+-])[a-z0-9][\w.%+-]{0,63}@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.){1,8}[a-z]{2,24}(?![\w(@-])",
    re.A | re.I,
)
_EXAMPLE_DOMAIN = re.compile(
    r"(?:^|\.)(?:example(?:\.(?:com|org|net|edu))?|test|invalid|localhost|local|internal)$", re.I
)
_IN_ADDRESS = re.compile(r"://[^\s/@]*$")  # user and password in a connection address are no mailbox
_ROLES = frozenset({"git", "hg", "svn", "root", "user", "username", "noreply", "no-reply"})  # nobody's own mailbox

_IPV4 = re.compile(r"(?<![\w.-])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w-]|\.\w)")
_VERSION_BEFORE = re.compile(r"(?:[=<>~^]=|\bversions?|\breleases?|\bver\.?|\bsection|\bchapter|§)\s*$", re.I)
_SMALL_OCTET = 32  # of four numbers, three below it make a version or a section far more often than an address
_PUBLIC_RESOLVERS = frozenset({"8.8.8.8", "8.8.4.4", "9.9.9.9", "208.67.222.222", "208.67.220.220"})
_IPV6 = re.compile(r"(?<![\w:.])[23][0-9a-f]{3}:[0-9a-f:]{4,34}(?![\w:])", re.I)

_CARD = re.compile(
    r"(?<![\w.,+-])(?<![0-9][ -])"
    r"(?:[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{4}|3[0-9]{3}([ -])[0-9]{6}\2[0-9]{5}|[0-9]{13,16})"
    r"(?![\w-]|[., ][0-9])"
)
# Visa, Mastercard, American Express, Diners Club, Discover and JCB (ISO/IEC 7812 prefixes).
_CARD_PREFIX = re.compile(
    r"4(?:\d{12}|\d{15})|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}|(?:6011|65\d\d|35\d\d)\d{12}"
)
_CARD_BEFORE = re.compile(r"\b(?:cards?|visa|mastercard|amex|credit|debit)\b", re.I)
# published by payment processors for tests
_TEST_CARDS = frozenset({
    "4111111111111111", "4242424242424242", "4012888888881881", "5555555555554444", "5105105105105100",
    "378282246310005",
})  # fmt: skip

_IBAN = re.compile(r"(?<![\w-])[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![\w-])")
_IBAN_LENGTHS = {  # characters by country (ISO 13616 registry)
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FO GL NL", 19: "MK SI", 20: "AT BA EE KZ LT LU XK", 21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS", 23: "AE GI IL IQ TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT",
        26: "IS TR", 27: "FR GR IT MC MR SM", 28: "AL AZ CY DO GT HU LB PL", 29: "BR EG PS QA UA", 30: "JO KW MU",
        31: "MT SC",
    }.items()
    for country in countries.split()
}  # fmt: skip

_PHONE = re.compile(
    # With a country code (E.164), in North American groups, or after a label. Possessive, so that a number is taken
    # whole or left whole.
    r"(?<![\w.+*/=<>^-])\+[1-9][0-9]{0,2}+(?:[ .-]?\([0-9]{1,5}\))?(?:[ .-]?[0-9]{1,12}){1,6}+(?!\w|,[0-9])"
    r"|(?<![\w.+(/-])(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}([.-]))[2-9][0-9]{2}(?(1)\1|[ .-])[0-9]{4}(?!\w|[.,-][0-9])"
    r"|(?<=[ :.])(?:\(?[0-9]{2,5}\)?)(?:[ ./-]{1,3}\(?[0-9]{2,8}\)?){1,5}+(?!\w|[.,-][0-9])"
)
_NORTH_AMERICAN = re.compile(r"\([2-9]\d\d\) ?[2-9]\d\d[ .-]\d{4}|[2-9]\d\d([.-])[2-9]\d\d\1\d{4}")
_PHONE_LABEL = re.compile(r"\b(?:tel(?:ephone)?|phone|fax|mobile|cell)\b(?: ?(?:no|nr|number))?[.:]{0,2} ?$", re.I)
_FICTIONAL_PHONE = re.compile(r"55501[0-9]{2}")
_CONTEXT_CHARS = 48  # before a match that are looked at


def mask(text: str) -> tuple[str, dict[str, int]]:
    """Replaces private data by placeholders.

    Returns:
        The text, with as many lines as before, and how much was replaced of each kind that was found.
    """
    counts: Counter[str] = Counter()
    pieces: list[str] = []
    done = 0
    for sign in _signs(text):
        if sign < done:
            continue
        start, end = text.rfind("\n", 0, sign) + 1, text.find("\n", sign)
        end = len(text) if end < 0 else end
        pieces += text[done:start], _masked(text[start:end], counts)
        done = end
    return ("".join([*pieces, text[done:]]) if counts else text), dict(sorted(counts.items()))


def _signs(text: str) -> Iterator[int]:
    """Where something stands that a piece of private data has, so that other lines need no look; in their order."""
    found = (match.start() for match in _SIGN.finditer(text))
    return iter(sorted([*found, *(match.start() for match in re.finditer("@", text))]) if "@" in text else found)


def _masked(line: str, counts: Counter[str]) -> str:
    if "@" in line:
        line = _replace(_EMAIL, _email, line, counts, EMAIL)
    if line.count(":") > 1:
        line = _replace(_IPV6, _ipv6, line, counts, IP)
    if _SIGN.search(line):
        # Longest forms first: parts of an account number look like a phone number.
        line = _replace(_IBAN, _iban, line, counts, IBAN)
        line = _replace(_CARD, _card, line, counts, CARD)
        line = _replace(CANDIDATE, _national_id, line, counts, NATIONAL_ID)
        line = _replace(_IPV4, _ipv4, line, counts, IP)
        line = _replace(_PHONE, _phone, line, counts, PHONE)
    return line


Rule = Callable[[str, str, str], str | None]  # (match, what stands before it, what after) -> placeholder or None


def _replace(pattern: re.Pattern[str], rule: Rule, line: str, counts: Counter[str], kind: str) -> str:
    def replaced(match: re.Match[str]) -> str:
        start, end = match.span()
        placeholder = rule(match[0], line[max(0, start - _CONTEXT_CHARS) : start], line[end : end + 1])
        if placeholder is None:
            return match[0]
        counts[kind] += 1
        return placeholder

    return pattern.sub(replaced, line)


def _email(found: str, before: str, after: str) -> str | None:
    user, _, domain = found.partition("@")
    if user.lower() in _ROLES or _EXAMPLE_DOMAIN.search(domain) or _IN_ADDRESS.search(before):
        return None
    return EMAIL_PLACEHOLDER


def _ipv4(found: str, before: str, after: str) -> str | None:
    try:
        address = IPv4Address(found)
    except AddressValueError:
        return None
    small = sum(octet < _SMALL_OCTET for octet in address.packed)
    if small >= 3 or _VERSION_BEFORE.search(before):
        return None
    if not address.is_global or address.is_multicast or found in _PUBLIC_RESOLVERS:
        return None
    return IPV4_PLACEHOLDER


def _ipv6(found: str, before: str, after: str) -> str | None:
    try:
        address = IPv6Address(found)
    except AddressValueError:
        return None
    # A slice such as `2000::10` is an address to the letter; addresses that are people's have more parts.
    parts = sum(1 for part in found.split(":") if part)
    return IPV6_PLACEHOLDER if address.is_global and parts > 2 else None


def _card(found: str, before: str, after: str) -> str | None:
    digits = re.sub(r"[ -]", "", found)
    if not _CARD_PREFIX.fullmatch(digits) or not luhn(digits) or digits in _TEST_CARDS:
        return None
    # One in ten numbers passes Luhn's test: an ungrouped one is a card only where the text says so.
    if digits == found and not _CARD_BEFORE.search(before):
        return None
    return CARD_PLACEHOLDER


def _national_id(found: str, before: str, after: str) -> str | None:
    return NATIONAL_ID_PLACEHOLDER if is_national_id(found, before) else None


def _iban(found: str, before: str, after: str) -> str | None:
    account = found.replace(" ", "")
    length = _IBAN_LENGTHS.get(account[:2])
    if length is None or len(account) < length:
        return None
    # Spaced words in capitals after the number may have been taken for more of it.
    rest = ""
    if len(account) > length:
        groups = found.split(" ")
        while len("".join(groups)) > length:
            rest = f" {groups.pop()}{rest}"
        account = "".join(groups)
        if len(account) != length:
            return None
    checked = int("".join(str(int(character, 36)) for character in account[4:] + account[:4])) % 97
    return IBAN_PLACEHOLDER + rest if checked == 1 else None


def _phone(found: str, before: str, after: str) -> str | None:
    digits = re.sub(r"\D", "", found)
    if not 7 <= len(digits) <= 15 or _FICTIONAL_PHONE.search(digits):
        return None
    if found.startswith("+"):
        # Without a group it may be a signed number.
        is_phone = len(digits) >= 9 and (len(digits) < len(found) - 1 or len(digits) > 10)
    else:
        is_phone = bool(_NORTH_AMERICAN.fullmatch(found) or _PHONE_LABEL.search(before))
    return PHONE_PLACEHOLDER if is_phone else None
