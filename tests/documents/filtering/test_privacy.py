"""Privacy: private data is masked; versions, decorators, examples and numbers are not."""

from __future__ import annotations

import time

import pytest

from herdsman.documents.filtering.national_ids import luhn
from herdsman.documents.filtering.privacy import mask

PRIVATE = [
    ("Write to jane.doe+news@mill-owners.co.uk today", "Write to name@example.org today", "email"),
    ("<JANE@Acme.COM>", "<name@example.org>", "email"),
    ("mailto:jane@acme.com?subject=x", "mailto:name@example.org?subject=x", "email"),
    ("Call +44 20 7946 0958 now", "Call +1 555 555 0100 now", "phone"),
    ("Call +4930901820 now", "Call +4930901820 now", ""),  # ungrouped and short: may be a signed number
    ("Call +493090182012 now", "Call +1 555 555 0100 now", "phone"),
    ("Call +49 (0)30 901820-12.", "Call +1 555 555 0100.", "phone"),
    ("(212) 736-5000", "+1 555 555 0100", "phone"),
    ("212-736-5000", "+1 555 555 0100", "phone"),
    ("Tel.: 030 / 90 18 20", "Tel.: +1 555 555 0100", "phone"),
    ("Fax: 01 42 68 53 00", "Fax: +1 555 555 0100", "phone"),
    ("from 93.184.216.34 port 22", "from 192.0.2.1 port 22", "ip"),
    ("http://93.184.216.34:8080/x", "http://192.0.2.1:8080/x", "ip"),
    ("2a00:1450:4001:82a::200e is up", "2001:db8::1 is up", "ip"),
    ("4539 1488 0343 6467", "0000 0000 0000 0000", "card"),
    ("3714-496353-98431", "0000 0000 0000 0000", "card"),
    ("Visa card number 4539148803436467.", "Visa card number 0000 0000 0000 0000.", "card"),
    ("IBAN DE75 5121 0800 1245 1261 99.", "IBAN XX00 0000 0000 0000.", "iban"),
    ("FR7630006000011234567890189", "XX00 0000 0000 0000", "iban"),
    ("GB33BUKB20201555555555 AND MORE", "XX00 0000 0000 0000 AND MORE", "iban"),
    ("GB33 BUKB 2020 1555 5555 55 PAID", "XX00 0000 0000 0000 PAID", "iban"),
]
# Numbers that authorities and standards print as examples, or made up so that their check digits hold.
NATIONAL = {
    "us": ("SSN 536-22-1234.", "SSN 536-00-1234."),
    "uk spaced": ("AB 12 34 56 C", "GB 12 34 56 C"),
    "uk": ("National Insurance number: AB123456C", "part number AB123456C"),
    "de": ("Steuer-ID 86 095 742 719", "Steuer-ID 86 095 742 718"),
    "fr": ("1 85 05 78 006 084 91", "1 85 05 78 006 084 36"),
    "es": ("DNI: 12345678Z", "DNI: 12345678A"),
    "es label": ("NIE X-1234567-L", "model X-1234567-L"),
    "it": ("RSSMRA85T10A562S", "RSSMRA85T10A562T"),
    "nl": ("BSN 111222333", "BSN 111222334"),
    "br": ("529.982.247-25", "529.982.247-24"),
    "br label": ("CPF 52998224725", "build 52998224725"),
    "in": ("Aadhaar no. 2341 2341 2346", "Aadhaar no. 2341 2341 2347"),
    "cn": ("11010519491231002X", "110105194912310021"),
    "cn date": ("11010519491231002X", "11010519491331002X"),
    "pl": ("PESEL 44051401359", "PESEL 44051401358"),
    "se": ("personnummer 811228-9874", "personnummer 811228-9875"),
    "se label": ("pnr 19811228-9874", "job 19811228-9874"),
    "kr": ("900101-1234568", "900101-1234567"),
    "ch": ("756.9217.0769.85", "756.9217.0769.84"),
}
NOT_PRIVATE = [
    "user@example.com, a@b.example, root@server.example.net, x@localhost, y@mail.test",  # RFC 2606
    "git clone git@github.com:mill/wheel.git",
    "postgresql://scott:tiger@db.acme.com:5432/test",
    "@app.route('/') and @pytest.mark.slow",
    "result = left@right.transpose()",
    "pip install package==10.200.4.250 and version 93.184.216.34",
    "Version 2.14.3.1, section 3.1.4.12, OID 1.3.6.1.4.1.311, 36.1.3.1 Details",
    "127.0.0.1, 0.0.0.0, 192.168.1.20, 10.1.2.3, 172.16.99.1, 255.255.255.0, 203.0.113.7, 8.8.8.8, 224.0.0.251",
    "999.999.999.999 and 1.2.3",
    "std::vector, a[2000::10], 12:30:45, ::1, fe80::1, 2001:db8::ff00:42:8329",
    "2024-05-01T12:30:45+0100, 2020-10-01 10:20:30.123456",
    "+0.5 and x=+123456789 and +12 or -1234567890",
    "1 000 000 000 people, 3.14159265358979, 0x7fffffffffffffff, 4503599627370496",
    "ISBN 978-0-13-110362-7, ISSN 2049-3630, doi:10.1000/182",
    "4111 1111 1111 1111 is a test card; 4539 1488 0343 6468 fails the check; 1234 5678 9012 3456 is no prefix",
    "id 4539148803436467 without a word of what it is",
    "sha 5d41402abc4b2a76b9719d911017c592, uuid 123e4567-e89b-12d3-a456-426614174000",
    "555-0123 is fiction, and so are (555) 555-0142 and +1 555 555 0100",
    "DE75 5121 0800 1245 1261 98 fails the check, ZZ75 5121 0800 1245 1261 99 is no country",
    "pages 100-200-3000, 12.345.6789, RFC 2606, 404-555",
    "000-00-0000, 666-12-3456, 078-05-1120 and 123-45-6789 are nobody's numbers; 20240501-1234 is a build",
    "SHA 536221234, part 536-22-12345, 1-536-22-1234, serial RSSMRA85T10A562, 52998224725, 86095742719, 44051401359",
]


@pytest.mark.parametrize(("text", "masked", "kind"), PRIVATE)
def test_private_data_is_masked(text: str, masked: str, kind: str) -> None:
    assert mask(text) == (masked, {kind: 1} if kind else {})


@pytest.mark.parametrize("name", NATIONAL)
def test_national_ids_are_masked_and_those_that_fail_a_check_are_not(name: str) -> None:
    valid, invalid = NATIONAL[name]
    masked, counts = mask(f"Of {valid} it is said.")
    assert counts == {"national id": 1}
    assert "000-00-0000" in masked
    assert mask(masked) == (masked, {})
    assert mask(f"Of {invalid} it is said.") == (f"Of {invalid} it is said.", {})


@pytest.mark.parametrize("text", NOT_PRIVATE)
def test_what_is_not_private_stays(text: str) -> None:
    assert mask(text) == (text, {})


@pytest.mark.parametrize("text", [text for text, _, _ in PRIVATE])
def test_masking_twice_changes_nothing(text: str) -> None:
    once, _ = mask(text)
    assert mask(once) == (once, {})
    assert mask(f"{once} 155 {once}")[1] == {}


def test_counts_by_kind_and_lines_stay() -> None:
    text = "a@acme.com b@acme.com\n\ncall 212-736-5000\n    host = '93.184.216.34'\n\n"
    masked, counts = mask(text)
    assert counts == {"email": 2, "ip": 1, "phone": 1}
    assert masked == "name@example.org name@example.org\n\ncall +1 555 555 0100\n    host = '192.0.2.1'\n\n"


def test_a_match_never_spans_two_lines() -> None:
    text = "212-736-\n5000 and 4539 1488\n0343 6467"
    assert mask(text) == (text, {})


@pytest.mark.parametrize(
    ("digits", "valid"), [("79927398713", True), ("79927398710", False), ("0", True), ("4539148803436467", True)]
)
def test_luhn(digits: str, valid: bool) -> None:
    assert luhn(digits) == valid


ABSURD = ["a@" * 500_000, "1" * 1_000_000, "1 " * 500_000, "+1 (2) " * 150_000, "a.b" * 300_000 + "@"]
ABSURD += ["2a00:" * 200_000, "AB12 CDEF " * 100_000, "1.1.1." * 150_000]


@pytest.mark.parametrize("text", ABSURD, ids=range(len(ABSURD)))
def test_absurd_lines_are_masked_in_linear_time(text: str) -> None:
    start = time.process_time()
    mask(text)
    assert time.process_time() - start < 4
