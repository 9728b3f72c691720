"""Language identification with the real lid.176 model, on the whole text."""

from __future__ import annotations

import pytest

from herdsman.documents.filtering.language import UNKNOWN, identify, model

TEXTS = {
    "en": "The children went down to the river after school and stayed until it was too dark to see the water.",
    "de": "Die Kinder gingen nach der Schule zum Fluss hinunter und blieben, bis es zu dunkel war, um etwas zu sehen.",
    "fr": "Après l'école, les enfants sont descendus à la rivière et y sont restés jusqu'à la tombée de la nuit.",
    "es": "Después de la escuela, los niños bajaron al río y se quedaron hasta que oscureció por completo.",
    "pl": "Po szkole dzieci poszły nad rzekę i zostały tam, aż zrobiło się zbyt ciemno, żeby cokolwiek zobaczyć.",
    "ru": "После школы дети пошли к реке и оставались там, пока не стало слишком темно, чтобы что-то видеть.",
    "el": "Μετά το σχολείο τα παιδιά κατέβηκαν στο ποτάμι και έμειναν εκεί μέχρι που σκοτείνιασε εντελώς.",
    "ar": "بعد المدرسة نزل الأطفال إلى النهر وبقوا هناك حتى حل الظلام تماما ولم يعودوا يرون الماء.",
    "zh": "放学以后，孩子们来到河边，一直玩到天黑得看不见水面才回家。",
    "ja": "放課後、子どもたちは川へ下りて行き、暗くなって水が見えなくなるまでそこにいました。",
    "hi": "स्कूल के बाद बच्चे नदी पर गए और तब तक वहीं रहे जब तक अंधेरा नहीं हो गया।",
}


@pytest.mark.parametrize("language", TEXTS)
def test_languages_are_told_apart(language: str) -> None:
    found, score = identify(TEXTS[language])
    assert found == language
    assert 0.5 < score <= 1


@pytest.mark.parametrize("text", ["", " ", "\n\t \n", "\u3000"])
def test_no_text_has_no_language(text: str) -> None:
    assert identify(text) == (UNKNOWN, 0.0)


def test_line_ends_do_not_matter() -> None:
    assert identify(TEXTS["de"].replace(" ", "\n")) == identify(TEXTS["de"])


def test_the_whole_text_is_read_and_not_its_beginning() -> None:
    assert identify(TEXTS["en"] + "\n" + (TEXTS["de"] + "\n") * 20)[0] == "de"


@pytest.mark.parametrize("text", ["\0\x01", "1 2 3", "{};", "\U0010ffff" * 50, "a" * 1_000_000])
def test_nonsense_gives_some_answer(text: str) -> None:
    language, score = identify(text)
    assert language
    assert 0 <= score <= 1


def test_the_model_is_loaded_once_in_a_process() -> None:
    assert model() is model()
