"""What the attributes of an element say about it: names that authors and site kits agree on, read once and remembered.

The same attributes come again and again, on a page and on all pages of a site, so a verdict is looked up, not made.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_REMEMBERED, _REMEMBERED_CHARS = 50_000, 500  # verdicts, and characters of attributes worth to remember
_ATTRIBUTE = re.compile(r'\s([^\s=]+)(?:="([^"]*)")?')
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_TOPICS = re.compile(r"(?<!\S)(?:tag|category)-\S+")  # of a post, which may be about cookies, too
_UNSEEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.I)
_SECTION = re.compile(r"(?<!\S)section(?!\S)")

_UNSEEN_NAMES = re.compile(
    r"(?<!\S)(?:linenos|linenodiv|lineno|line-numbers-rows|blob-num|gutter|math-?jax-preview|katex-html"
    r"|viewcode-(?:link|back)|anchor-link|sr-only|visually-?hidden|screen-reader(?:-text|-response)?|only-?print|skip-?(?:link|nav|to-\S+)|mw-editsection|mw-jump-link|navbox|noprint|hidden|hide|invisible"
    r"|element-invisible|assistive-text)(?!\S)"
)
_UNSEEN_ROLES = frozenset({
    "search", "menu", "menubar", "dialog", "alertdialog", "tablist", "toolbar", "tooltip", "status", "progressbar",
})  # fmt: skip
_CHROME_ROLES = frozenset({"navigation", "complementary", "banner", "contentinfo", "form"})
_BODY_NAMES = re.compile(
    r"(?<!\S)(?:\S+-)?(?:(?:article|story|entry|post|news|blog|text|content|page)-?(?:-main)?-?"
    r"(?:body|text|content|copy|contents)|articlebody|storybody|maincontent|bodytext|bodycopy|rich-?text|markdown-body"
    r"|mw-content-text|mw-parser-output|bd-article|docs-body|documentwrapper|bodywrapper|post-full-content)(?!\S)"
)
_MAIN_NAMES = re.compile(
    r"(?<!\S)(?:main|content|main-?(?:content|column|col|body|text)|content-?(?:main|area|body|column)|primary|article"
    r"|post|entry|story|hentry|page-?content|site-content|product-(?:description|details?|info)|description|tab-content"
    r"|topic-?body|question|answer)(?!\S)"
)
_CHROME_NAMES = re.compile(
    r"(?<![^\s-])(?:nav|navbar|navigation|navheader|navfooter|menu|submenu|megamenu|sidenav|sidecol|rail"
    r"|right-?(?:col|column|rail|bar)|sphinxsidebar\w*|toc|toctree|localtoc|globaltoc|breadcrumbs?|crumbs?"
    r"|related|relatedposts|recommend(?:ed|ations?)|footer|prev-next|pager|pagination|paginator|pagenav|search|searchbox"
    r"|share|sharing|sharebar|shares|social|sharedaddy|addthis|cookies?|consent|gdpr|advert\w*|adsense|dfp"
    r"|promo|promos|promotion|sponsored|newsletter|subscribe|subscription|signup|sign-up|login|log-in|register"
    r"|modal|popup|popover|masthead|copyright|colophon|tag-?list|tagcloud|author-?(?:box|bio|info|card)"
    r"|about-?(?:the-)?author|bd-header-article|headerlink|edit-on|version-switch\w*|bottom-?nav\w*|top-?nav\w*|outbrain|taboola"
    r"|zergnet|trending|most-?(?:read|popular|viewed)|more-?(?:stories|news|articles|posts|from)"
    r"|also-?(?:read|like)|teasers?|upsell|cross-?sell|cart|minicart|wishlist|facets?|language-?switch\w*"
    r"|mobile-?menu|off-?canvas|cta|donate|syndicat\w+|jp-relatedposts|suggest(?:ed|ions?)?|instagram-media)(?![^\s-])"
)
# Words that also name what belongs to the text: they count for little pieces, and for lists of links.
_HINT_NAMES = re.compile(
    r"(?<![^\s-])(?:ads?|sidebar|contents|foot|banner|sponsors?|widgets?|tooltip|toolbar|tools|byline|postmeta|meta|metadata"
    r"|timestamp|dateline|date|tags|skip|popular|latest|read-?more|see-?also|paywall|print|email|rating|ratings|carousel|slider"
    r"|credits?|figcredit|disclaimer|legal|feedback|helpful|filters?|sort|notification|alert-bar|call-to-action|donation"
    r"|hidden-xs|permalink|author|category|categories|breaking|publish(?:ed)?|updated|views?|caption)(?![^\s-])"
)
_COMMENT_NAMES = re.compile(
    r"(?<![^\s-])(?:comments?|comment-?(?:list|section|thread|area|wrapper|form|respond)|commentlist|respond|disqus\w*"
    r"|replies|discussion|forums?|fb-comments|livefyre|viafoura|responses|trackbacks?|pingbacks?|reader-?comments)(?![^\s-])"
)
_NOT_CHROME = re.compile(
    r"(?<!\S)(?:has|no|with|without|is|enable|js)-\S+|(?<!\S)\S*(?:sidebar-(?:left|right|none|active|open)|wrapper|container|layout)(?!\S)"
)
_ASIDES = re.compile(r"footnote|admonition|note|warning|tip|example|topic|system-message|citation|sidenote|pullquote")


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of an element from its attributes.

    Attributes:
        unseen: never shown, or never content whatever page it is on.
        doubled: not read aloud; of an inline element a symbol, or what is beside it in another form.
        body: calls itself the body of an article; `main`: calls itself main content.
        chrome: calls itself navigation, sharing, advertising and the like; `hint`: by a word that names other things,
            too; `comments`: comments of readers.
        aside: a note that belongs to the text.
        telling: by its name something else than main content: any of the three before.
    """

    unseen: bool = False
    doubled: bool = False
    body: bool = False
    main: bool = False
    chrome: bool = False
    hint: bool = False
    comments: bool = False
    aside: bool = False
    telling: bool = False


PLAIN = Look()
SECTION = "section"
_seen: dict[str, Look] = {"": PLAIN}


def look_at(attributes: str, tag: str = "") -> Look:
    """The verdict on serialised attributes (` class="a b" id="c"`).

    Args:
        tag: of a `section` the id says nothing: generators make it from the heading, which may be about cookies,
            sharing or navigation.
    """
    key = SECTION + attributes if tag == SECTION else attributes
    found = _seen.get(key)
    if found is None and len(key) > _REMEMBERED_CHARS:
        found = _judge(attributes, tag == SECTION)
    elif found is None:
        if len(_seen) >= _REMEMBERED:
            _seen.clear()
        found = _seen[key] = _judge(attributes, tag == SECTION)
    return found


def _judge(attributes: str, is_section: bool) -> Look:
    if "=" not in attributes and "hidden" not in attributes:
        return PLAIN
    values = dict[str, str](_ATTRIBUTE.findall(attributes))
    role = values.get("role", "").lower()
    classes = values.get("class", "")
    maths = "math" in classes.lower() or "katex" in classes
    unseen = (
        ("hidden" in values and values["hidden"] != "until-found" and not maths)
        or (bool(_UNSEEN_STYLE.search(values.get("style", ""))) and not maths)
        or role in _UNSEEN_ROLES
    )
    names = [classes, values.get("itemprop", ""), values.get("data-testid", ""), values.get("data-component", "")]
    if not is_section and not _SECTION.search(classes):
        names.append(values.get("id", ""))
    name = _CAMEL.sub("-", " ".join(names)).lower().replace("_", "-").replace("--", "-")
    name = " ".join(_TOPICS.sub("", name).split())
    unseen = unseen or bool(_UNSEEN_NAMES.search(name))
    body = any(
        _BODY_NAMES.search(word) and not _CHROME_NAMES.search(word) and not _COMMENT_NAMES.search(word)
        for word in name.split()
    )
    chrome_name = _NOT_CHROME.sub("", name)
    main = role in ("main", "article") or bool(_MAIN_NAMES.search(name))
    chrome = role in _CHROME_ROLES or bool(_CHROME_NAMES.search(chrome_name))
    hint = bool(_HINT_NAMES.search(chrome_name))
    comments = bool(_COMMENT_NAMES.search(chrome_name))
    return Look(
        unseen=unseen and not body and not main,  # some sites show the beginning only, or wait for a program
        doubled=values.get("aria-hidden") == "true",
        body=body,
        main=main,
        chrome=chrome,
        hint=hint,
        comments=comments,
        telling=chrome or hint or comments,
        aside=bool(_ASIDES.search(name)),
    )
