"""The judge answers each question once, whatever fails on the way, and its answers are read as they are meant."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from herdsman.documents.quality import judge as judges
from herdsman.documents.quality.judge import (
    Endpoint,
    LocalModel,
    answers,
    open_judge,
    parse_category,
    parse_grade,
    parse_yes,
    question,
)
from herdsman.documents.quality.quality_options import QualityOptions
from herdsman.errors import InputError, NetworkError
from herdsman.progress import SILENT, Task
from tests.documents.judge_server import JudgeServer, serve

TEXTS = [f"Document number {number} says {'so ' * (number % 7)}much." for number in range(60)]


def grade(asked: str, text: str) -> str:
    return f"Grade: {len(text) % 6}"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HERDSMAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(judges, "FIRST_PAUSE_SECONDS", 0.01)
    return tmp_path / "cache" / "judgements"


def options(server: JudgeServer, **settings: object) -> QualityOptions:
    chosen = {"judge": "endpoint", "base_url": server.address, "model": "tiny", "timeout_seconds": 5} | settings
    return QualityOptions(**chosen)  # type: ignore[arg-type]


def ask(chosen: QualityOptions, texts: list[str] = TEXTS, task: str = "quality") -> list[str | None]:
    return answers(open_judge(chosen), chosen, task, texts, Task(SILENT, "judge", len(texts), "answers"))


@pytest.mark.parametrize(
    ("answer", "meant"),
    [
        ("4", 4), ("Grade: 3", 3), ("**5**", 5), ("The grade is 4/5.", 4), ('{"quality": 1}', 1), ("0", 0),
        ("Score: 4 out of 5", 4), ("<think>perhaps a 2</think>\n4", 4), ("yes", 5), ("No.", 0), ("3.0", 3),
        ("It meets 2, misses others, so my rating: 3", 3), ("I would say 2 or 3", None), ("10", None), ("4.5", None),
        ("grade 10", None), ("unsure", None), ("", None), ("<think>3 or", None), ("2024-05-03", None),
    ],
)  # fmt: skip
def test_grades_are_read(answer: str, meant: int | None) -> None:
    assert parse_grade(answer) == meant


def test_other_answers_are_read() -> None:
    assert [parse_yes(said) for said in ("Yes.", "no", "<think>yes</think> No", "perhaps")] == [
        True,
        False,
        False,
        None,
    ]
    assert parse_category("code; technology and programming") == ("code", "technology and programming")
    assert parse_category("Kind: General\nTopic: **Sport** (or travel)") == ("general", "sport")
    assert parse_category("reasoning") == ("reasoning", "")
    assert parse_category("sport") is None


def test_the_requirements_are_the_recipes() -> None:
    assert "It rhymes." in question(QualityOptions(requirements="It rhymes."), "quality")
    assert "everyday life" in question(QualityOptions(), "category")


def test_every_fault_is_outlived_and_nothing_is_asked_twice(own_cache: Path) -> None:
    with serve(grade) as server:
        server.faults += [429, 500, "nonsense", "break", "other", 503, 429, "break", 408]
        server.delay = lambda text: 0.02 * (len(text) % 3)  # later questions are answered first
        found = ask(options(server))
        assert found == [grade("", text) for text in TEXTS]
        assert not server.faults
        assert set(server.asked.values()) == {1}
        bodies = len(server.bodies)
        assert ask(options(server, concurrency=1), [*TEXTS[5:], TEXTS[7]]) == [*found[5:], found[7]]
        assert len(server.bodies) == bodies
        ask(options(server, requirements="It rhymes."), TEXTS[:3])
        ask(options(server, model="other"), TEXTS[:3])
        assert len(server.bodies) == bodies + 6
    assert server.bodies[0]["temperature"] == 0
    assert len(list(own_cache.iterdir())) == 3


def test_an_answer_that_takes_too_long_is_asked_for_again() -> None:
    with serve(grade) as server:
        slow = Counter[str]()

        def delay(text: str) -> float:
            slow[text] += 1
            return 1.5 if text == TEXTS[3] and slow[text] == 1 else 0.0

        server.delay = delay
        assert ask(options(server, timeout_seconds=0.4), TEXTS[:6]) == [grade("", text) for text in TEXTS[:6]]
        assert slow[TEXTS[3]] == 2


ASKING = """
import sys
from herdsman.documents.quality.judge import answers, open_judge
from herdsman.documents.quality.quality_options import QualityOptions
from herdsman.progress import SILENT, Task
from tests.documents.quality.test_judge import TEXTS
chosen = QualityOptions(judge="endpoint", base_url=sys.argv[1], model="tiny", concurrency=4)
answers(open_judge(chosen), chosen, "quality", TEXTS, Task(SILENT, "judge", 60, "answers"))
"""


def test_after_a_kill_only_what_was_not_answered_is_asked(own_cache: Path) -> None:
    with serve(grade) as server:
        server.delay = lambda text: 0.03
        process = subprocess.Popen([sys.executable, "-c", ASKING, server.address], env=os.environ)
        deadline = time.monotonic() + 60
        while sum(file.read_bytes().count(b"\n") for file in own_cache.glob("*")) < 20:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        (file,) = own_cache.iterdir()
        kept = [json.loads(line)["text"] for line in file.read_bytes().split(b"\n")[:-1]]
        file.write_bytes(file.read_bytes()[:-12])  # the kill hit the middle of the last line
        before = Counter(server.asked)
        found = ask(options(server, concurrency=4))
        assert found == [grade("", text) for text in TEXTS]
        again = [text for (_, text), count in (server.asked - before).items() if count]
        assert len(again) == len(TEXTS) - len(kept) + 1
        assert {json.loads(line)["text"] for line in file.read_bytes().splitlines() if line.endswith(b"}")} >= set(kept)
        assert ask(options(server)) == found


def test_refusals_of_one_text_are_no_end_and_are_not_kept() -> None:
    with serve(grade) as server:
        server.faults.append(413)
        found = ask(options(server, concurrency=1), TEXTS[:4])
        assert found == [None, *(grade("", text) for text in TEXTS[1:4])]
        assert ask(options(server), TEXTS[:1]) == [grade("", TEXTS[0])]


def test_what_cannot_go_on_is_one_sentence_and_answers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(grade) as server:
        with pytest.raises(
            InputError, match=r"^documents.quality.api_key_variable: the environment variable JUDGE_KEY"
        ):
            ask(options(server, api_key_variable="JUDGE_KEY"))
        monkeypatch.setenv("JUDGE_KEY", "a secret")
        chosen = options(server, api_key_variable="JUDGE_KEY", concurrency=1, retries=1)
        ask(chosen, TEXTS[:5])
        assert server.keys == {"Bearer a secret"}
        server.faults += [401]
        with pytest.raises(NetworkError, match=r"does not accept the request \(the server answered 401") as caught:
            ask(chosen, TEXTS[:6])
        assert "a secret" not in str(caught.value)
        server.faults += [503, 503]
        with pytest.raises(NetworkError, match=r"does not answer \(the server answered 503, 2 times\)"):
            ask(chosen, TEXTS[:6])
        asked = server.asked.total()
        ask(chosen, TEXTS[:6])
        assert server.asked.total() == asked + 1
    with pytest.raises(NetworkError, match="the connection failed, 2 times"):
        ask(chosen)


def test_a_judge_that_is_not_described_is_refused() -> None:
    for settings in ({"judge": "endpoint", "model": "x"}, {"judge": "model"}):
        with pytest.raises(ValueError, match="needs"):
            QualityOptions(**settings)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="there is no model here"):
        open_judge(QualityOptions(judge="model", model="/nowhere"))


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real, tiny, untrained Llama with a byte-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(special_tokens=["<end>"], initial_alphabet=alphabet))
    folder = tmp_path_factory.mktemp("llama")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=1200, eos_token_id=0, bos_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_a_model_in_a_folder_answers_greedily(model_folder: Path, own_cache: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    chosen = QualityOptions(judge="model", model=str(model_folder), max_answer_tokens=6)
    found = ask(chosen, TEXTS[:3])
    tokenizer, model = AutoTokenizer.from_pretrained(model_folder), AutoModelForCausalLM.from_pretrained(model_folder)
    for text, answer in zip(TEXTS[:3], found, strict=True):
        asked = f"{judges.ROLE}\n\n<document>\n{text}\n</document>\n\n{question(chosen, 'quality')}\nAnswer:"
        ids = tokenizer(asked, return_tensors="pt")["input_ids"]
        start = ids.shape[1]
        for _ in range(6):
            following = model(ids).logits[0, -1].argmax()
            ids = torch.cat([ids, following[None, None]], 1)
            if following == tokenizer.eos_token_id:
                break
        assert answer == tokenizer.decode(ids[0, start:], skip_special_tokens=True)
    assert LocalModel(chosen).ask("too long " * 2000) is None
    lines = next(own_cache.iterdir()).read_text().splitlines()
    assert [json.loads(line)["answer"] for line in lines] == found


def test_endpoint_names_are_part_of_the_cache_key_and_addresses_are_not() -> None:
    with serve(grade) as one, serve(grade) as other:
        ask(options(one), TEXTS[:4])
        ask(options(other), TEXTS[:4])
        assert (one.asked.total(), other.asked.total()) == (4, 0)
        assert Endpoint(options(one)).name == "tiny"
