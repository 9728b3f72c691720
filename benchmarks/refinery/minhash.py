"""MinHash deduplication, signatures to clusters, against datatrove with the same parameters; and against exact Jaccard.

    python benchmarks/refinery/minhash.py OUT --peers ENV/bin/python [--texts FILE.parquet] [--documents 20000]
ENV has `pip install 'datatrove[processing]==0.10.1' tokenizers pyarrow`. FILE.parquet has a column `text`; without it
the texts are the sample's pages in pieces of about 5,000 characters. Each side runs as a command of its own, in turns;
its CPU seconds count from the texts in memory to the clusters, imports left out. datatrove gets words that are split at
spaces, which is faster than the word tokenizer of its recipes.

The curve: pairs of texts of real words that share a known part of them, so that their exact Jaccard similarity of word
5-grams is known; how many of them are joined, beside 1 - (1 - J^8)^14. OUT gets minhash.json and minhash.md.
"""

from __future__ import annotations

import argparse
import json
import random
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

BANDS, ROWS, WORDS = 14, 8, 5
PIECE, PEER_DOCUMENTS = 5_000, 3_000  # datatrove needs so much longer
PAIRS_AT = [0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
PAIRS = 150  # at each similarity


def herdsman(texts: list[str], work: Path, similarity: float) -> list[bool]:
    """Which texts would be dropped."""
    import numpy as np

    from herdsman.documents.duplicates.duplicate_options import DuplicateOptions
    from herdsman.documents.duplicates.near_duplicates import Bands, Signer, band_keys, choose, join
    from herdsman.documents.duplicates.shuffle import save

    options = DuplicateOptions(similarity=similarity, bands=BANDS, rows=ROWS, shingle_words=WORDS)
    signer = Signer(options)
    signatures = np.concatenate([signer.sign(texts[at : at + 256]) for at in range(0, len(texts), 256)])
    save(work / "signatures.npy", signatures)
    save(work / "bands.npy", band_keys(signatures, np.arange(len(texts)), None, options))
    bands = Bands([work / "signatures.npy"], [work / "bands.npy"], options, work)
    kept = choose(join(len(texts), map(np.load, map(bands, bands.items(len(texts))))))
    return (kept != np.arange(len(texts))).tolist()


def datatrove(texts: list[str], work: Path, similarity: float) -> list[bool]:
    """Which texts would be dropped: all that agree in a band, as datatrove compares no further."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup import minhash
    from datatrove.utils.logging import logger

    class Words:
        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

    logger.remove()
    minhash.load_word_tokenizer = lambda _: Words()
    config = minhash.MinhashConfig(n_grams=WORDS, num_buckets=BANDS, hashes_per_bucket=ROWS)
    documents = (Document(text=text, id=str(at)) for at, text in enumerate(texts))
    minhash.MinhashDedupSignature(str(work / "signatures"), config).run(documents, 0, 1)
    for band in range(BANDS):
        buckets = minhash.MinhashDedupBuckets(str(work / "signatures"), str(work / "buckets"), config=config)
        buckets.run(None, band, BANDS)
    minhash.MinhashDedupCluster(str(work / "buckets"), str(work / "removed"), config).run(None, 0, 1)
    dropped = [False] * len(texts)
    for file in (work / "removed").glob("*.remove"):
        for (at,) in struct.iter_unpack("I", file.read_bytes()):
            dropped[at] = True
    return dropped


SIDES = {"herdsman": herdsman, "datatrove": datatrove}


def run(side: str, texts_file: str, documents: str, similarity: str, dropped_file: str) -> None:
    """What a command of its own does: prints CPU seconds, writes which texts were dropped."""
    texts = parquet.read_table(texts_file, columns=["text"])["text"].slice(0, int(documents)).to_pylist()
    with tempfile.TemporaryDirectory() as warm, tempfile.TemporaryDirectory() as work:
        SIDES[side](["a text to import everything with before the clock starts"] * 2, Path(warm), float(similarity))
        started = time.process_time()
        dropped = SIDES[side](texts, Path(work), float(similarity))
        seconds = time.process_time() - started
    Path(dropped_file).write_text(json.dumps(dropped))
    print(json.dumps({"documents": len(texts), "cpu_seconds": seconds, "dropped": sum(dropped)}))


def sample_texts(file: Path) -> None:
    """The sample's pages in pieces, about 9,000."""
    from herdsman.artifacts import fetch_all
    from herdsman.documents.extraction.extract import extract
    from herdsman.documents.extraction.hostile import HostileMarkup
    from herdsman.pages.sample import SAMPLE, Counter, read_package

    texts: list[str] = []
    paths = fetch_all(package.artifact for package in SAMPLE)
    for package in SAMPLE:
        for page in read_package(package, paths[package.artifact], Counter(), 10_000_000):
            with suppress(HostileMarkup):
                text = extract(page.html, page.content_type).text
                texts += [text[at : at + PIECE] for at in range(0, len(text), PIECE) if len(text) - at >= PIECE // 2]
    random.Random(1).shuffle(texts)
    parquet.write_table(pa.table({"text": texts}), file)


def pairs(texts: list[str], file: Path) -> list[float]:
    """Writes pairs of texts whose words stand in no other pair; their exact similarities."""
    rng, made, exact = random.Random(2), list[str](), list[float]()
    for number in range(len(PAIRS_AT) * PAIRS):
        wanted = PAIRS_AT[number % len(PAIRS_AT)] + rng.uniform(-0.025, 0.025)
        mark = str(number).translate(str.maketrans("0123456789", "zqxjkvwyhf"))  # to datatrove all digits are alike
        words = [f"{word}{mark}" for word in rng.choice(texts).split()[:600] if word.isalnum()]
        cut = int(len(words) * 2 * wanted / (1 + wanted))
        other = words[:cut] + [f"{word}other" for word in words[cut:]]
        one, two = ({tuple(text[at : at + WORDS]) for at in range(len(text) - WORDS + 1)} for text in (words, other))
        if len(one) >= 100:
            made += [" ".join(words), " ".join(other)]
            exact.append(len(one & two) / len(one | two))
    parquet.write_table(pa.table({"text": made}), file)
    return exact


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--peers", default=sys.executable, help="Python of the environment with datatrove")
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        texts_file, pairs_file = options.texts or Path(folder) / "texts.parquet", Path(folder) / "pairs.parquet"
        if options.texts is None:
            sample_texts(texts_file)
        exact = pairs(parquet.read_table(texts_file, columns=["text"])["text"].to_pylist(), pairs_file)

        def command(side: str, file: Path, documents: int, similarity: float) -> tuple[dict[str, Any], list[bool]]:
            python = options.peers if side == "datatrove" else sys.executable
            dropped = Path(folder) / "dropped.json"
            call = [python, __file__, "--run", side, str(file), str(documents), str(similarity), str(dropped)]
            done = subprocess.run(call, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{side} failed:\n{done.stderr}")
            return json.loads(done.stdout.splitlines()[-1]), json.loads(dropped.read_text())

        sizes = {"herdsman": options.documents, "datatrove": min(options.documents, PEER_DOCUMENTS)}
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        for _ in range(options.rounds):
            for side, size in sizes.items():
                runs[side].append(command(side, texts_file, size, 0.75)[0])
        joined = {}
        for name, similarity in {"herdsman": 0.75, "herdsman, bands only": 0.0, "datatrove": 0.0}.items():
            side = name.partition(",")[0]
            dropped = command(side, pairs_file, 2 * len(exact), similarity)[1]
            joined[name] = [one or two for one, two in zip(dropped[::2], dropped[1::2], strict=True)]
    report(options.out, runs, exact, joined)


def report(out: Path, runs: dict[str, list[dict[str, Any]]], exact: list[float], joined: dict[str, list[bool]]) -> None:
    speed = {side: median(run["documents"] / run["cpu_seconds"] for run in rows) for side, rows in runs.items()}
    lines = ["| | documents | CPU seconds | documents per CPU second |", "|---|---|---|---|"]
    for side, rows in runs.items():
        seconds = median(row["cpu_seconds"] for row in rows)
        lines.append(f"| {side} | {rows[0]['documents']:,} | {seconds:.2f} | {speed[side]:,.0f} |")
    ratio = speed["herdsman"] / speed["datatrove"]
    lines += ["", f"{ratio:.1f} times as many documents per CPU second.", ""]
    lines += [f"| Jaccard | pairs | theory | {' | '.join(joined)} |", "|---" * (3 + len(joined)) + "|"]
    curve, quality = [], {}
    for center in PAIRS_AT:
        at = [number for number, value in enumerate(exact) if abs(value - center) < 0.025]
        theory = sum(1 - (1 - exact[number] ** ROWS) ** BANDS for number in at) / max(len(at), 1)
        shares = {name: sum(found[number] for number in at) / max(len(at), 1) for name, found in joined.items()}
        curve.append({"jaccard": center, "pairs": len(at), "theory": theory, **shares})
        cells = [str(center), str(len(at)), *(f"{share:.3f}" for share in (theory, *shares.values()))]
        lines.append(f"| {' | '.join(cells)} |")
    for name, found in joined.items():
        hits = sum(hit for hit, value in zip(found, exact, strict=True) if value >= 0.75)
        quality[name] = {"recall": hits / sum(value >= 0.75 for value in exact), "precision": hits / sum(found)}
    lines += ["", "At 0.75, over all these pairs:", "", "| | recall | precision |", "|---|---|---|"]
    lines += [f"| {name} | {entry['recall']:.3f} | {entry['precision']:.3f} |" for name, entry in quality.items()]
    (out / "minhash.md").write_text("\n".join(lines) + "\n")
    found = {"runs": runs, "speed": speed, "ratio": ratio, "curve": curve, "at 0.75": quality}
    (out / "minhash.json").write_text(json.dumps(found, indent=1) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        run(*sys.argv[2:])
    else:
        main()
