"""The microscope's page of this site, and its pictures: a small model, trained in some seconds, and one step of it.

    python docs/microscope_example.py page.html            # the page
    python docs/microscope_example.py --pictures           # docs/images/microscope-*.png, by a headless Chromium

The pictures need `pip install '.[browser]'` and a Chromium.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # this scratchnmt

import numpy as np  # noqa: E402

from scratchnmt import NMT  # noqa: E402
from scratchnmt.data.encode import encode_parallel  # noqa: E402
from scratchnmt.data.toy import toy_corpus  # noqa: E402
from scratchnmt.data.vocab import WordVocabulary  # noqa: E402
from scratchnmt.microscope import Microscope  # noqa: E402
from scratchnmt.optim import Adam, clip_global_norm  # noqa: E402

STEPS, BATCH, UNITS = 900, 32, 48
PAIR = "the sad girl does not see him .", "la fille triste ne le voit pas ."
IMAGES = Path(__file__).parent / "images"
PICTURES = {  # name -> address, height
    "sentence": ("sentence/0", 760), "gradient": ("flow/0", 1100), "number": ("number/dh_dec/0/3/{unit}", 1640),
    "sources": ("sources/dh_enc/0/4", 1080), "step": ("step/120", 800), "unit": ("unit/dec/0/{unit}", 1000),
    "sabotage": ("sabotage/dc-overwritten", 1300)}


def example() -> Microscope:
    """One step of a model that has begun to translate."""
    corpus = toy_corpus(train=4000)
    src_vocab, tgt_vocab = (WordVocabulary.build(lines, min_count=1) for lines in corpus.train)
    examples, _ = encode_parallel(*corpus.train, src_vocab, tgt_vocab)
    model = NMT(len(src_vocab), len(tgt_vocab), UNITS, UNITS, init="glorot", seed=0)
    optimizer, rng = Adam(model.params, learning_rate=5e-3), np.random.default_rng(0)
    for _ in range(STEPS):
        batch = examples.batch(rng.choice(len(examples), BATCH, replace=False))
        _, cache = model.forward(batch.src, batch.src_lengths, batch.tgt)
        grads = model.backward(cache)
        clip_global_norm(grads, 5.0)
        optimizer.step(grads)
    return Microscope(model, src_vocab, tgt_vocab, [PAIR], title="a small model")


def take_pictures(page: Path, unit: int) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for name, (address, height) in PICTURES.items():
            view = browser.new_page(viewport={"width": 1280, "height": height}, color_scheme="light")
            view.goto(f"{page.as_uri()}#{address.format(unit=unit)}")
            view.wait_for_selector("h2, h1")
            view.screenshot(path=IMAGES / f"microscope-{name}.png")
            view.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", nargs="?", type=Path)
    parser.add_argument("--pictures", action="store_true")
    args = parser.parse_args()
    microscope = example()
    page = args.page or Path(tempfile.mkdtemp()) / "page.html"
    microscope.save(page)
    print(f"{page}: loss {microscope.data['loss']:.3f}, translation of {PAIR[0]!r}: {PAIR[1]!r}")
    if args.pictures:
        take_pictures(page.resolve(), microscope.page.units["dec"][0])


if __name__ == "__main__":
    main()
