"""Knowledge topics of documents, and the words by which clear cases are labelled for the topic classifier to learn.

Llama 3 down-samples web knowledge that there is too much of, such as arts and entertainment, by a knowledge classifier
(section 3.1.2); its classes are not published. These are weak labels: words that are telling in English, and only
documents in which one topic has several of them and no other comes near. The classifier generalises from the documents'
other words. A judge's labels (see `judge`) take their place.
"""

from __future__ import annotations

from collections import Counter

MIN_WORDS = 4  # different words of a topic that a labelled document has
CLEARLY = 2.0  # how many times the words of the next topic
MIN_PER_1000 = 6.0  # of the document's words
COUNTED = 3  # times that one word counts

_SEEDS = {
    "arts and entertainment": "film films movie actor actress album albums singer song songs band guitar concert museum"
    " painter painting paintings sculpture theatre theater novel novels poet poem poetry comedy celebrity episode tv"
    " netflix hollywood lyrics orchestra opera dance artist artists gallery fiction cinema",
    "science": "physics chemistry biology species molecule molecules atom atoms particle quantum telescope astronomy"
    " planet galaxy evolution genes dna protein proteins cells laboratory experiment experiments scientists fossil"
    " ecosystem climate geology enzyme organism gravity electron bacteria researchers temperature",
    "technology and programming": "software python javascript java code function class method api server database"
    " compiler module package install library string parameter parameters linux windows browser html css query debug"
    " github repository docker runtime syntax exception command programming developer algorithm sql",
    "mathematics": "theorem lemma proof equation equations integral derivative polynomial matrix algebra geometry"
    " calculus probability topology arithmetic eigenvalue logarithm trigonometric vector vectors conjecture corollary"
    " convergence finite infinite permutation prime integers triangle variance",
    "health": "patient patients disease symptoms treatment doctor doctors hospital clinical medicine medical cancer"
    " diabetes vaccine infection therapy diagnosis surgery nurse pain blood drug drugs dose vitamin nutrition mental"
    " depression pregnancy obesity cardiovascular physician",
    "history and society": "empire king queen emperor war wars battle ancient medieval dynasty revolution colony"
    " colonial tribe religion church christian islam buddhist archaeology civilization historian army soldiers kingdom"
    " slavery treaty culture ethnic monarchy invasion nobility",
    "law and politics": "court law lawyer attorney judge plaintiff defendant statute legislation parliament congress"
    " senate senator president minister election elections vote voters government policy party democrat republican"
    " constitution treaty rights regulation lawsuit prosecutor amendment campaign",
    "business": "company companies market markets revenue investors investment stock shares profit bank banks finance"
    " financial customers sales marketing startup business ceo economy inflation tax loan mortgage trade industry"
    " merger employees retail budget accounting",
    "sport": "team teams game games player players coach season league football soccer basketball baseball tennis golf"
    " hockey cricket olympic championship tournament goal goals match stadium athlete athletes scored race marathon"
    " playoffs quarterback rugby medal",
    "travel": "hotel hotels travel traveler tourist tourists tourism beach island airport flight flights trip tour"
    " tours resort restaurant restaurants itinerary visitors sightseeing cruise passport hiking destination"
    " destinations luggage vacation hostel scenic",
    "everyday life": "recipe recipes cook cooking oven butter sugar garden gardening plant plants kitchen furniture"
    " bedroom clothes dress fashion wedding parenting kids baby dog dogs cat cats pet cleaning laundry knitting craft"
    " sauce flour bake dating hair makeup",
    "adult and spam": "porn sex nude escort escorts casino casinos poker slots betting viagra cialis xxx webcam naked"
    " milf horny jackpot payday replica cheapest bonus gambling hookup erotic anal pussy roulette",
}
TOPICS = tuple(_SEEDS)
_TOPICS_OF: dict[str, tuple[str, ...]] = {}
for _topic, _words in _SEEDS.items():
    for _word in _words.split():
        _TOPICS_OF[_word] = (*_TOPICS_OF.get(_word, ()), _topic)


def weak_topic(line: str) -> str:
    """The topic of an English document, given as prepared for the classifiers, if it is a clear case; "" for others."""
    words = line.split()
    found = Counter(word for word in words if word in _TOPICS_OF)
    hits: Counter[str] = Counter()
    different: Counter[str] = Counter()
    for word, count in found.items():
        for topic in _TOPICS_OF[word]:
            hits[topic] += min(count, COUNTED)  # one word, however frequent, is no evidence of a topic
            different[topic] += 1
    if not hits:
        return ""
    ranked = sorted(hits, key=lambda topic: (-hits[topic], topic))
    first, second = ranked[0], hits[ranked[1]] if len(ranked) > 1 else 0
    clear = hits[first] >= CLEARLY * second and 1000 * hits[first] >= MIN_PER_1000 * len(words)
    return first if clear and different[first] >= MIN_WORDS else ""
