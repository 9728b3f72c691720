"""Makes the corpus of the refinery's benchmarks: real HTML pages from Debian's documentation packages, as WARC files.

    python benchmarks/refinery/corpus.py FOLDER [--pages 80000] [--pages-a-file 4000]

Needs Debian 12 or a container of it, after `apt-get update`: packages come by `apt-get download` (about 550 MB) and are
read with the standard library (.deb is ar, then tar). Pages of all packages are interleaved, each spread evenly over
the whole, so that the first files are a fair sample; the same packages give the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import lzma
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

# Package (or several: name-{a,b}), pages taken at most, and an address such pages could have.
PACKAGES = """
agda-stdlib-doc 600 agda.github.io/agda-stdlib | anarchism 200 www.anarchistfaq.org
apache2-doc 900 httpd.apache.org/docs/2.4 | bash-doc 50 www.gnu.org/software/bash/manual
cppreference-doc-en-html 4000 en.cppreference.com/w | debian-handbook 3400 debian-handbook.info/browse
debian-history 300 www.debian.org/doc/manuals/project-history | debian-policy 300 www.debian.org/doc/debian-policy
debian-reference-{de,en,es,fr,it,ja,pt,zh-cn} 50 www.debian.org/doc/manuals/debian-reference
developers-reference 200 www.debian.org/doc/manuals/developers-reference | dpdk-doc 2000 doc.dpdk.org/guides
erlang-doc 300 www.erlang.org/doc | ffmpeg-doc 300 ffmpeg.org/doxygen | fontforge-doc 900 fontforge.org/docs
gap-doc 300 docs.gap-system.org | ghc-doc 1200 downloads.haskell.org/ghc/docs
giac-doc 1200 www-fourier.univ-grenoble-alpes.fr/giac | git-doc 300 git-scm.com/docs
gromacs-data 5500 manual.gromacs.org/current | harden-doc 800 www.debian.org/doc/manuals/securing-debian-manual
installation-guide-amd64 1700 www.debian.org/releases/bookworm/amd64 | libboost1.81-doc 3900 www.boost.org/doc/libs
libcoq-stdlib 500 coq.inria.fr/stdlib | libreoffice-help-en-us 900 help.libreoffice.org/en
libreoffice-help-{cs,de,el,es,fr,it,ja,ko,nl,pl,pt,ru,sv,tr,vi,zh-cn} 1100 help.libreoffice.org
lilypond-doc-html 500 lilypond.org/doc/en | lilypond-doc-html-{de,es,fr,it,ja} 200 lilypond.org/doc
linux-doc-6.1 3200 www.kernel.org/doc/html | live-manual-html 250 live-team.pages.debian.net
macaulay2-common 6000 macaulay2.com/doc | maint-guide 200 www.debian.org/doc/manuals/maint-guide
maxima-doc 400 maxima.sourceforge.io/docs | mplayer-doc 900 mplayerhq.hu/DOCS | nodejs-doc 80 nodejs.org/docs
octave-doc 2900 docs.octave.org | postgresql-doc-15 1200 www.postgresql.org/docs/15
python-django-doc 700 docs.djangoproject.com/en/3.2 | python-pandas-doc 1200 pandas.pydata.org/docs
python-scipy-doc 4300 docs.scipy.org/doc/scipy | python-sklearn-doc 900 scikit-learn.org/stable
python-sympy-doc 400 docs.sympy.org/latest | python3.11-doc 600 docs.python.org/3.11
qtbase5-doc-html 2400 doc.qt.io/qt-5 | racket-doc 600 docs.racket-lang.org | rust-doc 6000 doc.rust-lang.org
sagemath-doc 3000 doc.sagemath.org/html | solfege-doc 600 www.gnu.org/software/solfege
sqlite3-doc 800 www.sqlite.org | sumo-doc 1000 sumo.dlr.de/docs | vim-doc 200 vimhelp.org
"""


def packages() -> list[tuple[str, int, str]]:
    """Package, pages at most, address, with languages spelt out."""
    found = []
    for entry in PACKAGES.replace("\n", " | ").strip(" |").split(" | "):
        name, most, base = entry.split()
        start, _, languages = name.rstrip("}").partition("{")
        for language in languages.split(",") if languages else [""]:
            found.append((start + language, int(most), f"https://{base}/{language}".rstrip("/")))
    return found


def _keyed(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def opened(package: str, folder: Path) -> tarfile.TarFile:
    """The package's files, downloaded and uncompressed once: a .deb is an ar archive that holds data.tar.xz."""
    plain = folder / f"{package}.tar"
    if not plain.exists():
        subprocess.run(["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", package], cwd=folder, check=True)
        (deb,) = folder.glob(f"{package}_*.deb")
        with open(deb, "rb") as file:
            file.seek(8)
            while head := file.read(60):
                size = int(head[48:58])
                if head.startswith(b"data.tar.xz"):
                    beside = plain.with_suffix(".partial")
                    with lzma.open(io.BytesIO(file.read(size))) as packed, open(beside, "wb") as out:
                        while piece := packed.read(1 << 20):
                            out.write(piece)
                    beside.rename(plain)
                    deb.unlink()
                    break
                file.seek(size + size % 2, 1)
    return tarfile.open(plain)


def chosen(package: str, most: int, base: str, folder: Path) -> list[tuple[float, str, tarfile.TarFile, str]]:
    """Pages of a package in an order that a hash of their names draws: place in the corpus, address, archive, name."""
    archive = opened(package, folder)
    names = [
        member.name
        for member in archive
        if member.isfile() and member.name.endswith((".html", ".htm", ".xhtml", ".html.gz")) and member.size > 0
    ]
    names = sorted(names, key=_keyed)[:most]
    found = []
    for number, name in enumerate(names):
        path = name.removeprefix("./").removesuffix(".gz")
        for start in (f"usr/share/doc/{package}/", "usr/share/doc/", "usr/share/", "usr/lib/"):
            if path.startswith(start):
                path = path[len(start) :]
                break
        found.append(((number + 0.5) / len(names), f"{base}/{path.removeprefix('html/')}", archive, name))
    return found


def record(url: str, body: bytes) -> bytes:
    """One response of a crawl, as a gzip member; dates are drawn from the address, all in 2024."""
    day = int(_keyed(url)[:4], 16) % 366
    name = uuid.uuid5(uuid.NAMESPACE_URL, url)
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {url}\r\n"
        f"WARC-Date: 2024-{day // 31 + 1:02d}-{min(day % 31 + 1, 28):02d}T12:00:00Z\r\n"
        f"WARC-Identified-Payload-Type: text/html\r\nWARC-Record-ID: <urn:uuid:{name}>\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
    )
    return gzip.compress(head.encode() + http + b"\r\n\r\n", 6, mtime=0)


def pages(folder: Path, some: list[tuple[str, int, str]] | None = None) -> Iterator[tuple[str, bytes]]:
    """Address and bytes of every page, all packages interleaved."""
    found = [page for package in some or packages() for page in chosen(*package, folder)]
    for _, url, archive, name in sorted(found, key=lambda page: (page[0], page[1])):
        body = archive.extractfile(name).read()  # type: ignore[union-attr]
        yield url, gzip.decompress(body) if name.endswith(".gz") else body


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes the benchmark corpus.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pages", type=int, default=80_000)
    parser.add_argument("--pages-a-file", type=int, default=4_000)
    options = parser.parse_args()
    debs, warc = options.folder / "debs", options.folder / "warc"
    for folder in (debs, warc):
        folder.mkdir(parents=True, exist_ok=True)
    number, total, rest = 0, 0, islice(pages(debs), options.pages)
    while some := list(islice(rest, options.pages_a_file)):
        path = warc / f"part-{number // options.pages_a_file:05d}.warc.gz"
        beside = path.with_suffix(".partial")
        beside.write_bytes(b"".join(record(*page) for page in some))
        beside.rename(path)
        number, total = number + len(some), total + sum(len(body) for _, body in some)
    facts = {"pages": number, "html_bytes": total, "bytes_a_page": round(total / max(number, 1))}
    (options.folder / "corpus.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(facts)


if __name__ == "__main__":
    main()
