"""Vocabularies: text to token ids and back, by whole words or by SentencePiece's subwords.

Both kinds number their tokens alike: 0 is padding, then <s>, </s>, <unk>, then the words or pieces.
`encode` adds no special token.  The text "<s>" in a sentence is ordinary text, never the special token.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import islice
from typing import Any, TypeAlias

from ..errors import ArgumentError, InputError, check_choice, printable, require, shown
from ..files.atomic import write_atomically
from ..files.reading import open_regular, read_limited
from .formats import packing
from .text import each_line, most_characters

PAD, BOS, EOS, UNK = 0, 1, 2, 3
SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")
NORMALIZATIONS = ("identity", "nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf")  # SentencePiece's names

VOCABULARY_LIMIT = 1 << 27  # bytes of a file: some million words; a larger one is neither written nor read
_FORMAT, _VERSION = "scratchnmt words", 1
_MOST_COMPOSED = 1000  # characters
WORDS = 1 << 20, 20  # characters that a packed list may have, or as many for each of its bytes
SPACE = "\u2581"  # as SentencePiece writes it, before a word
_GOES_ON = "@@"  # as subword-nmt writes at the end of a part that is not the last of a word
_NEVER_PIECES = "\0\t\r\n\x1f\u2585"  # SentencePiece has uses of its own for them, or leaves out lines with them
_FEW = 256  # characters: an alphabet or two with digits and punctuation
_CLUSTER = re.compile("\\S[\u0300-\u036f]*|[^\\S ]")  # a character and the accents upon it, or an odd space


class WordVocabulary:
    """Tokens are what stands between spaces, so the text should be tokenised; decoding joins by spaces.

    An accent composed with its letter and one that follows it are the same (Unicode NFC).
    """

    UNIT = "words"  # what can be unknown

    def __init__(self, words: Iterable[str]):
        """`words`: distinct and in order of their ids, from 4 on; ValueError if one cannot be a token."""
        self._tokens = [*SPECIALS, *words]
        self._ids = {word: i for i, word in enumerate(self._tokens) if i > UNK}
        if len(set(self._tokens)) != len(self._tokens) or any(split_words(w) != [w] for w in self._ids):
            raise ArgumentError("words must be distinct, hold no space and differ from the special tokens")
        try:
            "".join(self._tokens).encode()
        except UnicodeEncodeError as error:  # JSON can write half a character, as "\ud800"
            raise ArgumentError(f"a word is no text: {error}") from error

    @classmethod
    def build(cls, lines: Iterable[str], size: int = 50000, min_count: int = 2) -> WordVocabulary:
        """The words that occur `min_count` times or more, most frequent first, ties in alphabetical order.

        `size` bounds len() of the result, the four special tokens included.
        """
        if size <= len(SPECIALS):
            raise InputError(f"vocabulary size {size} is too small: {len(SPECIALS)} are the special tokens")
        if min_count < 1:
            raise InputError(f"min_count must be at least 1, not {min_count}")
        counts = Counter(word for line in lines for word in split_words(line) if word not in SPECIALS)
        frequent = sorted((-n, word) for word, n in counts.items() if n >= min_count)
        if not frequent:
            raise InputError(f"no word occurs {min_count} times or more: the vocabulary would be empty")
        return cls(word for _, word in frequent[: size - len(SPECIALS)])

    def encode(self, line: str) -> list[int]:
        """The ids of a line's words; UNK for those that are not in the vocabulary."""
        return [self._ids.get(word, UNK) for word in split_words(line)]

    def unknown(self, line: str, ids: list[int]) -> tuple[int, int]:
        """How many words of a line, encoded as `ids`, are unknown, and how many it has."""
        return ids.count(UNK), len(ids)

    def tokens(self, line: str) -> list[str]:
        """The line's words, one for every id of `encode`, the unknown ones as they are written."""
        return split_words(line)

    def decode(self, ids: Sequence[int]) -> str:
        """The words joined by spaces, without padding, <s> and </s>; an unknown word reads <unk>."""
        return " ".join(self._tokens[i] for i in ids if i > EOS)

    def token(self, id: int) -> str:
        """The word of an id; a special token is written as in SPECIALS."""
        return self._tokens[id]

    def __len__(self) -> int:
        return len(self._tokens)

    def to_bytes(self) -> bytes:
        """JSON; InputError if it is too large to be read again."""
        content = {"format": _FORMAT, "version": _VERSION, "words": self._tokens[len(SPECIALS) :]}
        data = json.dumps(content, ensure_ascii=False, indent=0).encode() + b"\n"
        if len(data) > VOCABULARY_LIMIT:
            raise InputError(f"a vocabulary of {len(self):,} words with {len(data):,} bytes is too large: choose a "
                             f"smaller vocab_size or a larger min_count, for at most {VOCABULARY_LIMIT:,} bytes")
        return data

    def save(self, path: str | os.PathLike) -> None:
        """Write `to_bytes`, atomically; the usual name is *.vocab.json."""
        write_atomically(path, self.to_bytes())

    def digest(self) -> str:
        """A SHA-256 of what `save` writes."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


class SentencePieceVocabulary:
    """Subwords of raw text, by the sentencepiece library (Kudo and Richardson 2018).

    Decoding gives the text again, but for what the library makes of spaces (a run of them is one; none are kept at the
    start and the end; U+2581, with which it writes a space, comes back as one) and what its normalization changes:
    nothing by "identity".  A vocabulary is normalized as it was learned; its file says how.

    A character without a piece is read in its compatible form (Unicode NFKC: a no-break space as a space, a full-width
    letter as a letter, a letter and its accent as one character), so that it is unknown only if that form is, too.
    """

    UNIT = "characters"

    def __init__(self, model: bytes):
        """`model`: the bytes of a SentencePiece .model file whose ids 0 to 3 are our special tokens."""
        sentencepiece = require("sentencepiece", extra="train")
        self._model = model
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
            pieces = self._processor.id_to_piece(list(range(len(self))))  # a list: sentencepiece 0.2.1 takes no range
        except (RuntimeError, IndexError) as error:
            raise ArgumentError("not a SentencePiece model, or a damaged one") from error
        if tuple(pieces[: len(SPECIALS)]) != SPECIALS:
            specials = " ".join(pieces[: len(SPECIALS)])
            raise ArgumentError(f"its first pieces are {printable(specials)}, expected {' '.join(SPECIALS)}")
        self._known = frozenset(" ".join(pieces[len(SPECIALS) :]))
        self._keeps_all = "\t" in self._processor.normalize("a\tb")  # the nmt rules read compatible forms themselves

    @classmethod
    def train(
        cls, lines: Iterable[str], size: int = 8000, model: str = "bpe", seed: int = 0, *,
        normalization: str = "identity", character_coverage: float | None = None, user_symbols: Sequence[str] = (),
        say: Callable[[str], Any] = lambda line: None,
    ) -> SentencePieceVocabulary:
        """Learn subwords ("bpe" or "unigram") from raw text.

        `size` bounds len() of the result, special tokens included; a small text yields fewer pieces.
        normalization: the rule of SentencePiece (one of NORMALIZATIONS) that is applied to every text.
        character_coverage: which characters get a piece, see `rare_characters`; those of SPECIALS do in any case.
        user_symbols: become a piece each, wherever they stand in a text.  say: is told of the rare characters.
        """
        sentencepiece = require("sentencepiece", extra="train")
        if model not in ("bpe", "unigram"):
            raise InputError(f'a SentencePiece model is "bpe" or "unigram", not {model!r}')
        if size <= len(SPECIALS):
            raise InputError(f"vocabulary size {size} is too small: {len(SPECIALS)} are the special tokens")
        check_choice("normalization", normalization, NORMALIZATIONS)
        _check_user_symbols(user_symbols)
        lines = [line for line in lines if line.strip()]
        if not lines:
            raise InputError("there is no text to learn subwords from")
        rare, share = rare_characters(lines, size, character_coverage)
        if rare:
            say(f"{len(rare):,} rare characters, {share:.2%} of the text, get no piece and become <unk> "
                "(character_coverage 1 gives each a piece)")
        gaps = str.maketrans(dict.fromkeys([*rare, *_NEVER_PIECES], " "))
        spelled = " ".join(sorted(set("".join(SPECIALS))))  # so that the text "<unk>" can be spelled
        sentencepiece.set_random_generator_seed(seed)
        pad, bos, eos, unk = SPECIALS
        out = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter([*(line.translate(gaps) for line in lines), spelled]),
                model_writer=out,
                vocab_size=size,
                model_type=model,
                normalization_rule_name=normalization,
                character_coverage=1.0,
                user_defined_symbols=list(user_symbols),
                hard_vocab_limit=False,
                max_sentence_length=1 << 20,
                pad_id=PAD, bos_id=BOS, eos_id=EOS, unk_id=UNK,
                pad_piece=pad, bos_piece=bos, eos_piece=eos, unk_piece=unk, unk_surface=unk,
                minloglevel=3,
            )  # fmt: skip
        except RuntimeError as error:
            needed = re.search(r"smaller than required_chars. \d+ vs (\d+)", str(error))
            what = "characters and the user symbols" if user_symbols else "characters alone"
            reason = (f"its {what} need {needed[1]}: choose a larger vocab_size or a smaller character_coverage"
                      if needed else str(error))
            raise InputError(f"SentencePiece cannot learn {size} pieces from this text: {reason}") from error
        return cls(out.getvalue())

    def encode(self, line: str) -> list[int]:
        """The ids of a line's pieces; UNK for characters that have none."""
        return self._processor.encode(self._spelled(line))

    def unknown(self, line: str, ids: list[int]) -> tuple[int, int]:
        """How many characters of a line, encoded as `ids`, are unknown, and how many it has, spaces left out."""
        total = len(line) - line.count(" ")
        if UNK not in ids:
            return 0, total
        pieces = (piece for piece, i in zip(self.tokens(line), ids, strict=True) if i == UNK)
        return min(sum(map(len, pieces)), total), total

    def tokens(self, line: str) -> list[str]:
        """The line's pieces, one for every id of `encode`; a piece that starts a word begins with U+2581."""
        return self._processor.encode(self._spelled(line), out_type=str)

    def _spelled(self, line: str) -> str:
        """The line, its characters that have no piece in their compatible form."""
        known = self._known
        if not self._keeps_all or known.issuperset(line):
            return line
        return _CLUSTER.sub(lambda m: m[0] if known.issuperset(m[0]) else _compatible_form(m[0]), line)

    def decode(self, ids: Sequence[int]) -> str:
        """Raw text, without padding, <s> and </s>; an unknown piece reads <unk>."""
        return self._processor.decode([int(i) for i in ids if i > EOS])

    def token(self, id: int) -> str:
        """The piece of an id; a special token is written as in SPECIALS."""
        return self._processor.id_to_piece(int(id))

    def unigrams(self) -> dict[str, tuple[int, float]]:
        """The pieces of a unigram model, each with its id and log p, which is below 0.

        User symbols, which have no probability, bytes and special tokens are not among them.
        """
        processor = self._processor
        odd = (processor.is_unknown, processor.is_control, processor.is_unused, processor.is_byte)
        return {self.token(id): (id, processor.get_score(id)) for id in range(len(self))
                if processor.get_score(id) < 0 and not any(is_odd(id) for is_odd in odd)}

    @property
    def is_unigram(self) -> bool:
        """Whether its pieces have probabilities, by which a text can be cut in more than one way."""
        try:
            self._processor.nbest_encode("a", nbest_size=2)
        except RuntimeError:  # "NBestEncode is not available for the current model": of BPE
            return False
        return True

    def __len__(self) -> int:
        return self._processor.get_piece_size()

    def to_bytes(self) -> bytes:
        """A SentencePiece .model file."""
        return self._model

    def save(self, path: str | os.PathLike) -> None:
        """Write `to_bytes`, atomically; the usual name is *.spm."""
        write_atomically(path, self._model)

    def digest(self) -> str:
        """A SHA-256 of what `save` writes."""
        return hashlib.sha256(self._model).hexdigest()

    def __reduce__(self):
        return SentencePieceVocabulary, (self._model,)  # for processes that encode


def rare_characters(lines: Iterable[str], size: int, coverage: float | None = None) -> tuple[set[str], float]:
    """The characters of the text that get no piece in a vocabulary of `size`, and their share of its characters.

    A subword vocabulary holds every character that it is to spell.  A text that was collected somewhere has hundreds
    of characters that occur once, in a name or by mistake: each would take the place of a useful subword, and no model
    learns from one occurrence what it means.

    coverage: the share of the text that the most frequent characters must make up; the others are rare.  None: no
    character is rare, unless there are more than 256 and more than size / 10 of them.  Then those are that occur once;
    if the rest still takes more than 256 and more than size / 2 pieces, those that occur twice, and so on.
    """
    if coverage is not None and not 0 < coverage <= 1:
        raise InputError(f"character_coverage is {coverage}, expected a share of the text above 0 and up to 1")
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(line)
    del counts[" "]
    total = sum(counts.values())
    rare = _too_many(counts, size) if coverage is None else _beyond(counts, coverage * total)
    return rare, sum(counts[c] for c in rare) / max(total, 1)


def _too_many(counts: Counter[str], size: int) -> set[str]:
    """Those that occur too seldom; of characters that occur equally often all or none."""
    least = 1 if len(counts) <= max(_FEW, size // 10) else 2
    while sum(n >= least for n in counts.values()) > max(_FEW, size // 2):
        least += 1
    return {c for c, n in counts.items() if n < least}


def _beyond(counts: Counter[str], wanted: float) -> set[str]:
    """Those after the most frequent ones that make up `wanted` characters of the text; ties in Unicode's order."""
    rare, covered = set(), 0
    for c, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if covered >= wanted:
            rare.add(c)
        covered += n
    return rare


def _compatible_form(text: str) -> str:
    """As SentencePiece's rule nmt_nfkc has it: Unicode's NFKC, and control characters and odd spaces as spaces."""
    return _nmt_nfkc().normalize(text)


@cache
def _nmt_nfkc() -> Any:
    return require("sentencepiece", extra="train").SentencePieceNormalizer(
        rule_name="nmt_nfkc", add_dummy_prefix=False, escape_whitespaces=False, remove_extra_whitespaces=False)


def _check_user_symbols(symbols: Sequence[str]) -> None:
    for symbol in symbols:
        if symbol.split() != [symbol] or set(symbol) & {SPACE, *_NEVER_PIECES} or symbol in SPECIALS:
            raise InputError(f"user symbol {shown(symbol)} cannot be a piece: expected text without spaces, other than "
                             f"{', '.join(SPECIALS)}")
    if len(set(symbols)) < len(symbols):
        raise InputError(f"a user symbol is given twice: {shown(list(symbols))}")


Vocabulary: TypeAlias = WordVocabulary | SentencePieceVocabulary


def ids_of_pieces(vocabulary: Vocabulary, lines: Iterable[str]) -> list[list[int]]:
    """The ids of lines of tokens with spaces between, each as `token` names it; <unk> is the special one.

    Raises InputError, with the number of the line, for what is no token of a sentence.
    """
    ids = {vocabulary.token(i): i for i in range(UNK, len(vocabulary))}
    encoded = []
    for number, line in enumerate(lines, start=1):
        pieces = [piece for piece in line.split(" ") if piece]
        if unknown := next((piece for piece in pieces if piece not in ids), None):
            raise InputError(f"line {number}: {shown(unknown)} is no token of the target vocabulary; expected tokens "
                             "as `translate --pieces` (pieces=True) gives them")
        encoded.append([ids[piece] for piece in pieces])
    return encoded


def load_vocabulary(path: str | os.PathLike) -> Vocabulary:
    """Load what `save` wrote; the content tells its kind.

    Raises InputError, naming the file, if it is missing, damaged or of a newer version.
    """
    return parse_vocabulary(vocabulary_bytes(path), path)


def vocabulary_bytes(path: str | os.PathLike) -> bytes:
    """What the file holds; InputError, naming it, if it cannot be read or is too large."""
    try:
        return read_limited(path, VOCABULARY_LIMIT)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def parse_vocabulary(data: bytes, path: str | os.PathLike) -> Vocabulary:
    """What `load_vocabulary` makes of a file's content."""
    try:
        return WordVocabulary(_parse_words(data)) if data.startswith(b"{") else SentencePieceVocabulary(data)
    except InputError:
        raise  # sentencepiece is not installed
    except (ValueError, RecursionError) as error:  # of which JSON's and UTF-8's errors are kinds
        raise InputError(f"{path} is not a vocabulary that can be used: {error}") from error


def _parse_words(data: bytes) -> list[str]:
    content = json.loads(data)
    if content.get("format") != _FORMAT:
        raise ArgumentError(f'its "format" is not "{_FORMAT}"')
    if content.get("version") != _VERSION:
        raise ArgumentError(f"it has version {shown(content.get('version'))}, this program reads version {_VERSION}")
    words = content.get("words")
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise ArgumentError('its "words" are not a list of words')
    return words


def split_words(line: str) -> list[str]:
    """What stands between spaces, each word `composed`."""
    if len(line) <= _MOST_COMPOSED:
        return composed(line).split()  # the same, sooner
    return [composed(word) for word in line.split()]


def composed(word: str) -> str:
    """In Unicode's NFC; a word that is longer than any is left as it is.

    The time that NFC takes grows with the square of a run of accents: 80,000 of them take three seconds.
    """
    return unicodedata.normalize("NFC", word) if len(word) <= _MOST_COMPOSED else word


def read_vocabulary(path: str | os.PathLike) -> Vocabulary:
    """A vocabulary that comes from elsewhere: a file of ours, a SentencePiece model, or words, one a line, with or
    without a count behind each, as most toolkits write them.

    Raises InputError, naming the file and what to do, if it is none of these.
    """
    try:
        with open_regular(path) as file:
            start = file.read(1 << 12)
    except OSError:
        start = b"{}"  # the error is the other reader's
    if re.match(rb'\{\s*("[^"\n]*"\s*:|\})', start):  # JSON; the first word of a list may be "{"
        return load_vocabulary(path)
    if re.search(rb"[\x00-\x08\x0e-\x1f]", start) and not packing(start):
        try:
            return load_vocabulary(path)
        except InputError as error:
            raise InputError(f"{error}; a SentencePiece model needs the ids that spm_train gives it with --pad_id=0 "
                             "--bos_id=1 --eos_id=2 --unk_id=3") from error
    words: dict[str, None] = {}
    for line in each_line(path, limit=min(VOCABULARY_LIMIT, most_characters(path, *WORDS) or VOCABULARY_LIMIT)):
        if re.match(r"\u2581\S*\t-\d", line):  # a piece and the logarithm of its probability
            raise InputError(f"{path} is the list that goes with a SentencePiece model: give the .model file instead")
        if first := line.split(None, 1)[:1]:
            words[composed(first[0])] = None
    if re.match(r'\ufeff?[{\[]"[^"]+"', "".join(islice(words, 2))):
        raise InputError(f"{path} is JSON, which is packed or has something before it, and no list of words: give it "
                         "as it was written, or the words one a line")
    try:
        return WordVocabulary(word for word in words if word not in SPECIALS)
    except ArgumentError as error:
        raise InputError(f"{path} is not a list of words: {error}") from error


def joined_by_end(text: str) -> str:
    """A line without the marks of subword-nmt; one at its end is dropped, too."""
    return re.sub(f"{_GOES_ON}( |$)", "", text)


def joined_by_begin(text: str) -> str:
    """A line without the marks of SentencePiece."""
    return text.replace(" ", "").replace(SPACE, " ").strip(" ")


def joiner(vocab: Vocabulary) -> Callable[[str], str]:
    """The function that joins the parts that a vocabulary's words are, of a text that was segmented before training.

    subword-nmt (Sennrich et al. 2016) ends each part but a word's last in "@@", "low@@ er c@@ ost"; SentencePiece (Kudo
    & Richardson 2018) writes U+2581 in the place of spaces, and a space between all parts, "▁low er ▁c ost".
    InputError if the words are no parts.
    """
    if isinstance(vocab, SentencePieceVocabulary):
        raise InputError("remove_bpe is for text that was segmented elsewhere (train --vocab word): the pieces of this "
                         "model's own vocabulary are joined anyhow")
    words = [vocab.token(id) for id in range(len(vocab))]
    if any(word.startswith(SPACE) for word in words):
        return joined_by_begin
    if any(word.endswith(_GOES_ON) for word in words):
        return joined_by_end
    raise InputError(f'remove_bpe: no word of the target vocabulary ends in "{_GOES_ON}" or begins with '
                     f'"{SPACE}": this model\'s text was not segmented, leave it out')
