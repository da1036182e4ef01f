"""Perplexity by hand; BLEU and chrF are sacrebleu's."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from scratchnmt.data.batches import make_batch
from scratchnmt.errors import InputError
from scratchnmt.metrics import (
    TOKENIZERS,
    check_tokenizer,
    chrf,
    corpus_bleu,
    perplexity,
    sentence_scores,
    tokenizer_for,
    unfit_tokenizer,
)
from scratchnmt.models.nmt import NMT


def test_perplexity_of_a_uniform_model_is_its_vocabulary_and_batches_do_not_matter():
    model = NMT(9, 11, 4, 4)
    model.params.flat[...] = 0
    pairs = [[4, 5], [6]], [[4, 5, 6], [7]]
    together = [make_batch(*pairs)]
    assert perplexity(model, together) == pytest.approx(11, rel=1e-6)
    model = NMT(9, 11, 4, 4, init="uniform", seed=1, dtype="float64", dropout=0.5, label_smoothing=0.3)
    model.params.flat[...] *= 20
    apart = [make_batch([s], [t]) for s, t in zip(*pairs, strict=True)]
    assert perplexity(model, apart) == pytest.approx(perplexity(model, together), rel=1e-12)


def test_perplexity_weighs_by_target_tokens_with_the_end():
    losses = iter([3.0, 5.0])
    model = SimpleNamespace(nll=lambda *a: next(losses), params=SimpleNamespace(flat=np.zeros(1)))
    batches = [make_batch([[4]], [[4, 5]]), make_batch([[4], [5]], [[4], [5, 6]])]  # 3 and 2 + 3 tokens
    assert perplexity(model, batches) == pytest.approx(math.exp(8 / 8))


def test_a_huge_loss_is_still_a_number_and_nothing_is_an_error():
    model = SimpleNamespace(nll=lambda *a: 1e9, params=SimpleNamespace(flat=np.zeros(1)))
    assert perplexity(model, [make_batch([[4]], [[4]])]) > 1e300
    for mean in (math.inf, math.nan):
        model.nll = lambda *a, mean=mean: mean
        assert not math.isfinite(perplexity(model, [make_batch([[4]], [[4]])]))
    with pytest.raises(InputError):
        perplexity(model, [])


def test_bleu_is_sacrebleus_on_raw_text():
    sacrebleu = pytest.importorskip("sacrebleu")
    hypotheses, references = ["Ein Hund läuft.", "Zwei Männer gehen"], ["Ein Hund rennt.", "Zwei Männer gehen."]
    found = corpus_bleu(hypotheses, references)
    assert found.score == sacrebleu.corpus_bleu(hypotheses, [references]).score
    assert "tok:13a" in found.signature and "version:" in found.signature
    assert corpus_bleu(references, references).score == pytest.approx(100)
    assert chrf(hypotheses, references).score == sacrebleu.corpus_chrf(hypotheses, [references]).score


def test_scores_of_sentences_are_sacrebleus_each_by_itself():
    sacrebleu = pytest.importorskip("sacrebleu")
    found = ["ein Hund läuft schnell nach Haus", "ja", "", "nein"]
    wanted = ["ein Hund rennt schnell nach Haus", "ja", "ja", "ja"]
    for metric, score in ("bleu", sacrebleu.BLEU(effective_order=True)), ("chrf", sacrebleu.CHRF()):
        expected = [score.sentence_score(*pair).score for pair in zip(found, ([one] for one in wanted), strict=True)]
        assert sentence_scores(metric, found, wanted) == expected
        assert 0 < expected[0] < 100 and expected[1:] == pytest.approx([100, 0, 0])
    by_letters = sentence_scores("bleu", ["甲乙丙丁戊己"], ["甲乙丙丁戊庚"], "char")
    assert 50 < by_letters[0] < 100 and sentence_scores("bleu", ["甲乙丙丁戊己"], ["甲乙丙丁戊庚"]) == [0]


WITH_SPACES = [
    "A dog runs across the snow.", "Ein Hund läuft über den Schnee.", "Собака бежит по снегу.", "الكلب يركض على الثلج.",
    "कुत्ता बर्फ पर दौड़ता है।", "개가 눈 위를 달린다.", "Ο σκύλος τρέχει στο χιόνι.", "הכלב רץ על השלג.",
    "Con chó chạy trên tuyết.", "The word for dog is 狗 in Chinese and 犬 in Japanese.", "1 2 3 !", "", " ",
]
CHINESE = [
    "一只狗在雪地上跑。", "一隻狗在雪地上跑。", "一 只 狗 在 雪地 上 跑 。", "用 scratchnmt 训练 Transformer 模型。",
    "狗", "一只狗在雪地上跑，商店的招牌上写着“の”。",
]
OTHERS_WITHOUT_SPACES = [
    "犬が雪の上を走る。", "スキーをする人", "หมาวิ่งบนหิมะ", "ໝາແລ່ນຢູ່ເທິງຫິມະ", "ឆ្កែរត់លើព្រិល", "ခွေးတစ်ကောင်ပြေးနေသည်",
    "ཁྱི་ཞིག་གངས་ཐོག་ནས་རྒྱུག",
]


@pytest.mark.parametrize("lines, tokenizer", [
    *(([line], "13a") for line in WITH_SPACES), (WITH_SPACES, "13a"), ([], "13a"),
    *(([line], "zh") for line in CHINESE), (CHINESE, "zh"),
    *(([line], "char") for line in OTHERS_WITHOUT_SPACES), (OTHERS_WITHOUT_SPACES, "char"),
])
def test_the_script_of_the_references_chooses_the_tokenizer(lines, tokenizer):
    assert tokenizer_for(lines) == tokenizer
    for asked in TOKENIZERS[1:]:
        assert tokenizer_for(lines, asked) == asked


@pytest.mark.parametrize("tokenize", TOKENIZERS[1:])
def test_a_tokenizer_that_looks_for_spaces_where_none_are_is_told(tokenize):
    by_spaces = tokenize in ("13a", "intl", "none")
    for line in ("一只狗在雪地上跑。", "这猫找到了这球。这猫 找到了这树。"):
        assert unfit_tokenizer([line], tokenize) == ("zh" if by_spaces else None)
    for line in OTHERS_WITHOUT_SPACES:
        assert unfit_tokenizer([line], tokenize) == ("char" if by_spaces or tokenize == "zh" else None)
    for lines in (WITH_SPACES, ["一 只 狗 在 雪地 上 跑 。"], ["หมา วิ่ง บน หิมะ"]):  # cut by a tokenizer
        assert unfit_tokenizer(lines, tokenize) is None


@pytest.mark.parametrize("tokenize", TOKENIZERS[1:])
def test_every_tokenizer_is_sacrebleus_and_stands_in_the_signature(tokenize):
    sacrebleu = pytest.importorskip("sacrebleu")
    hypotheses, references = ["一只狗在雪地上跑。", "A dog, running!"], ["一只狗在雪上跑。", "A dog; running!"]
    try:
        expected = sacrebleu.corpus_bleu(hypotheses, [references], tokenize=tokenize, force=True).score
    except RuntimeError:  # MeCab is not installed
        for refused in (lambda: check_tokenizer(tokenize), lambda: corpus_bleu(["a"], ["a"], tokenize=tokenize)):
            with pytest.raises(InputError, match=rf"tokenize {tokenize} needs .*'sacrebleu\[{tokenize[:2]}\]'"):
                refused()
        return
    found = corpus_bleu(hypotheses, references, tokenize=tokenize)
    assert found.score == expected and f"|tok:{tokenize}" in found.signature
    check_tokenizer(tokenize)


def test_bleu_of_chinese_is_of_its_characters_unless_asked_otherwise():
    hypotheses, references = ["一只狗在雪地上跑。"], ["一只黑狗在雪地上跑。"]
    assert corpus_bleu(hypotheses, references, tokenize="13a").score == 0
    found = corpus_bleu(hypotheses, references)
    assert found.score > 50 and "tok:zh" in found.signature


def test_a_tokenizer_that_is_not_known_is_refused():
    for wrong in ("13b", "spm", ""):  # spm downloads its model
        with pytest.raises(InputError, match="expected one of auto, 13a, intl, zh, char"):
            check_tokenizer(wrong)


def test_the_nearest_of_several_references_counts():
    sacrebleu = pytest.importorskip("sacrebleu")
    hypotheses = ["a dog runs on the snow", "two men go home now"]
    first = ["one dog ran on some snow", "two men go home now"]
    second = ["a dog runs on the snow", "both men went home"]
    found = corpus_bleu(hypotheses, first, second)
    assert found.score == pytest.approx(100) and "nrefs:2" in found.signature
    assert found.score > corpus_bleu(hypotheses, first).score
    assert chrf(hypotheses, first, second) == (pytest.approx(100), str(chrf(hypotheses, first, second).signature))
    assert "nrefs:2" in chrf(hypotheses, first, second).signature
    other = ["a cat runs", "two men walk"]
    assert corpus_bleu(hypotheses, first, other).score == sacrebleu.corpus_bleu(hypotheses, [first, other]).score


def test_a_blank_line_is_a_reference_fewer():
    hypotheses, first = ["a dog runs on", "x", "y"], ["a dog runs on the snow", "x", ""]
    found = corpus_bleu(hypotheses, first, ["", "x", " "])
    assert found.score == pytest.approx(corpus_bleu(hypotheses, first).score) and found.score > 0
    assert "nrefs:var" in found.signature and "nrefs:1" in corpus_bleu(hypotheses, first).signature


@pytest.mark.parametrize("hypotheses, references", [([], []), (["a"], ["a", "b"])])
def test_unequal_or_no_lines_are_refused(hypotheses, references):
    with pytest.raises(InputError, match=f"{len(hypotheses)} translations"):
        corpus_bleu(hypotheses, references)
    with pytest.raises(InputError, match="1 translations and 1 and 2 references"):
        corpus_bleu(["a"], ["a"], ["a", "b"])


@pytest.mark.parametrize("tokenize", [name for name in TOKENIZERS if "mecab" not in name])
def test_no_sentence_is_kept_after_it_was_scored(tokenize):
    corpus_bleu(["a dog runs .", "b"], ["a dog ran .", "c"], tokenize=tokenize)
    caches = [vars(one)["__call__"] for name, module in sys.modules.items() if name.startswith("sacrebleu.tokenizers")
              for one in vars(module).values() if isinstance(one, type) and "__call__" in vars(one)]
    assert caches and not [cache for cache in caches if hasattr(cache, "cache_info") and cache.cache_info().currsize]
